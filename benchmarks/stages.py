"""How near is each stage to what this machine can do? Speech detection, mel, encoder and decoder beside their floors.

    python -m benchmarks.stages [--shapes tiny,base,small,large-v3,turbo] [--device cpu] [--compute_type float16]
      [--rows 1,2,4,8,16,32]

The networks have the shapes of Whisper's and random weights: speed does not depend on what they are. The type is that
in which the device computes by default, or `--compute_type`. First the machine is measured in it: `GEMM` is the rate of
matrix products of 2048 rows and columns (a GPU: 8192), `memory` how fast 256 MB (a GPU: 4 GB) are read, with all cores.
A floor is the larger of two times: operations of the matrix products over GEMM, bytes of weights and of keys and values
over memory. `share` is floor over measured time: 100 % cannot be had.

For each shape: one chunk of 30 s through the encoder; one step of the decoder with so many rows, logits and choice
included, 60 tokens into the transcripts; and one step of a single row without batch invariance, that is with products
of that row alone (`P = 1`). Two lines tell what the fixed number of rows in a product brings and costs: a row of the
fullest batch beside that single row, and a single row with and without it.

Times are medians over `--repeats`, each read when the device is done. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
from collections.abc import Callable
from importlib.metadata import version
from time import perf_counter

import whisperx.models  # noqa: F401 before MLX, which takes the BLAS that is loaded by then

# isort: split
import mlx.core as mx
import numpy as np

from whisperx.audio import SAMPLE_RATE, log_mel_spectrogram
from whisperx.checkpoints import WhisperDimensions, expected_shapes
from whisperx.models.blas import blas_in_use
from whisperx.models.devices import find_device
from whisperx.models.host import host_math
from whisperx.models.ops import Array, to_host
from whisperx.models.whisper.compute_types import DTYPES
from whisperx.models.whisper.loading import assemble, default_rows_per_tile
from whisperx.models.whisper.model import KVCache, Whisper
from whisperx.vads import load_vad

SHAPES = {
    "tiny": WhisperDimensions(80, 1500, 384, 6, 4, 51865, 448, 384, 6, 4),
    "base": WhisperDimensions(80, 1500, 512, 8, 6, 51865, 448, 512, 8, 6),
    "small": WhisperDimensions(80, 1500, 768, 12, 12, 51865, 448, 768, 12, 12),
    "large-v3": WhisperDimensions(128, 1500, 1280, 20, 32, 51866, 448, 1280, 20, 32),
    "turbo": WhisperDimensions(128, 1500, 1280, 20, 32, 51866, 448, 1280, 20, 4),
}
POSITION = 60  # tokens before the step that is timed


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median over `repeats`, after two runs that are not counted. `mx.eval` returns when the device is done."""
    times = []
    for _ in range(repeats + 2):
        start = perf_counter()
        mx.eval(work())
        times.append(perf_counter() - start)
    return statistics.median(times[2:])


def machine(dtype: mx.Dtype) -> tuple[float, float]:
    """Operations and bytes a second."""
    on_cpu = mx.default_device() == mx.cpu
    n, n_products = (2048, 1) if on_cpu else (8192, 4)  # so much that what a launch costs a GPU does not show
    a, b = mx.random.normal((n, n)).astype(dtype), mx.random.normal((n, n)).astype(dtype)
    gemm = n_products * 2 * n**3 / seconds(lambda: [a @ b for _ in range(n_products)], 5)
    if on_cpu:  # where MLX adds up on one core
        blocks = list(np.ones((256, 1 << 18), np.float32))
        return gemm, (256 << 20) / seconds(lambda: host_math().for_each(np.sum, blocks), 5)
    many = [mx.zeros((1 << 30) // dtype.size, dtype) for _ in range(4)]
    return gemm, (4 << 30) / seconds(lambda: [block.sum() for block in many], 5)


def random_whisper(dims: WhisperDimensions, dtype: mx.Dtype, rows_per_tile: int | None) -> Whisper:
    weights = {
        name: (mx.random.normal(shape) * float(np.prod(shape[1:]) ** -0.5)).astype(dtype)
        for name, shape in expected_shapes(dims).items()
    }
    model = assemble(dims, weights, None, rows_per_tile)
    mx.eval(model.parameters())
    if mx.default_device() == mx.cpu and dtype == mx.float32:
        to_host(model)
        if rows_per_tile is not None:
            model.decoder.lay_out(rows_per_tile)
    return model


def encoder_floor(dims: WhisperDimensions) -> float:
    """Operations for one chunk, the keys and values that the decoder takes from it included."""
    t, d = dims.n_audio_ctx, dims.n_audio_state
    convolutions = 2 * 3 * (2 * t * dims.n_mels * d + t * d * d)
    blocks = dims.n_audio_layer * (2 * 12 * t * d * d + 4 * t * t * d)
    return convolutions + blocks + 4 * dims.n_text_layer * t * d * dims.n_text_state


def step_floor(dims: WhisperDimensions, n_rows: int, size: int) -> tuple[float, float]:
    """Operations, and bytes read, for one step of `n_rows` rows."""
    d, layers = dims.n_text_state, dims.n_text_layer
    weights = layers * 14 * d * d + dims.n_vocab * d
    keys = 2 * layers * (dims.n_audio_ctx + POSITION) * d * n_rows
    return 2.0 * (weights * n_rows + keys), float(size * (weights + keys))


def time_step(model: Whisper, n_rows: int, repeats: int) -> float:
    cache = KVCache.allocate(model.dims, n_rows, model.dtype)
    for array in (array for pair in [*cache.own, *cache.cross] for array in pair):
        array[:] = 0.1  # memory that was never written costs nothing to read
    cache.settle()
    tokens, positions = np.zeros(n_rows, np.int32), [POSITION] * n_rows

    def step() -> Array:
        hidden = model.decoder.step(tokens, positions, cache)
        return model.decoder.logits(hidden).argmax(axis=-1)

    return seconds(step, repeats)


def time_shape(
    name: str, rows: list[int], repeats: int, gemm: float, memory: float, dtype: mx.Dtype
) -> dict[str, object]:
    dims, tile = SHAPES[name], default_rows_per_tile()
    single = time_step(random_whisper(dims, dtype, None), 1, repeats)
    model = random_whisper(dims, dtype, tile)
    mel = np.random.default_rng(0).standard_normal((dims.n_mels, 2 * dims.n_audio_ctx), np.float32)
    encode = seconds(lambda: model.hear(model.encode(mel)), max(3, repeats // 4))
    floor = encoder_floor(dims) / gemm
    print(f"{name:9} encoder   {1e3 * encode:9.1f} ms   floor {1e3 * floor:8.1f} ms   share {floor / encode:4.0%}")
    result: dict[str, object] = {"encoder": {"seconds": encode, "floor": floor}, "steps": {}}
    steps = {}
    for n in sorted({1, *rows}):
        operations, size = step_floor(dims, n, dtype.size)
        steps[n], floor = time_step(model, n, repeats), max(operations / gemm, size / memory)
        print(
            f"{name:9} step {n:>4} {1e3 * steps[n]:9.2f} ms   floor {1e3 * floor:8.2f} ms   "
            f"share {floor / steps[n]:4.0%}   {n / steps[n]:7.0f} tokens/s"
        )
        result["steps"][n] = {"seconds": steps[n], "floor": floor}
    full, price = max(rows), steps[1] / single
    gain = single / (steps[full] / full)
    print(
        f"{name:9} P = 1, one row: {1e3 * single:.2f} ms; {full} rows in products of {tile}: {gain:.1f} times as fast,"
    )
    print(f"{name:9} and one row in products of {tile} takes {price:.2f} times as long")
    return result | {"single_row": single, "gain": gain, "price": price, "rows_per_tile": tile}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="tiny,base,small,large-v3,turbo", type=lambda text: text.split(","))
    parser.add_argument("--rows", default="1,2,4,8,16,32", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compute_type", choices=DTYPES)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()

    device = find_device(args.device)
    mx.set_default_device(device)
    on_cpu = device == mx.Device(mx.cpu)
    compute_type = args.compute_type or ("float32" if on_cpu else "float16")
    dtype = DTYPES[compute_type]
    versions = {package: version(package) for package in ("whisperx-mlx", "mlx", "numpy")}
    print(f"{platform.platform()}, {blas_in_use() if on_cpu else device}, {compute_type}, {versions}")
    gemm, memory = machine(dtype)
    print(f"GEMM {gemm / 1e9:.0f} GFLOP/s, memory {memory / 1e9:.1f} GB/s")

    audio = np.random.default_rng(0).normal(0, 0.1, 600 * SAMPLE_RATE).astype(np.float32)
    vad = load_vad("silero")
    detect = 6 * seconds(lambda: len(vad(audio)), 1)
    mel = 120 * seconds(lambda: log_mel_spectrogram(audio[: 30 * SAMPLE_RATE], 80).size, 5)
    print(f"of an hour: speech detection {detect:.1f} s, mel {mel:.1f} s")
    shapes = {name: time_shape(name, args.rows, args.repeats, gemm, memory, dtype) for name in args.shapes}
    print(
        json.dumps(
            {"compute_type": compute_type, "gemm": gemm, "memory": memory, "vad": detect, "mel": mel}
            | {"versions": versions, "shapes": shapes}
        )
    )


if __name__ == "__main__":
    main()
