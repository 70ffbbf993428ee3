"""How long alignment networks take on this machine, by family and size, and which share of a whole run that is.

    python -m benchmarks.aligners --device cpu --seconds 10 --repeats 3
    python -m benchmarks.aligners --device cpu --run RECORDING --model FOLDER

Each network has the size of a published one and random weights, which take as long as trained ones; `demo` is
examples/demo-aligner. One recording of `seconds` is heard at a time, as the program does it. The minimum of the repeats
counts: what makes a run slower than that is something else on the machine. The floor is the operations of the products
and convolutions over GEMM, the rate of matrix products of 2048 rows and columns; `share` is floor over measured time.

With --run, a recording goes through the whole program, English, greedy, with a network of base size: the seconds of
each stage, and the share of the alignment in their sum. The last line is JSON.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import whisperx.models  # noqa: F401 before MLX, which takes the BLAS that is loaded by then

# isort: split
import mlx.core as mx
import numpy as np

from benchmarks.stages import machine
from tests.random_wav2vec2 import LABELS, SMALL_WAV2VEC2
from whisperx.audio import SAMPLE_RATE
from whisperx.models.devices import find_device
from whisperx.models.wav2vec2 import Wav2Vec2Aligner, Wav2Vec2Dimensions, expected_shapes, load_wav2vec2
from whisperx.schema import DecodingOptions, Meter
from whisperx.transcribe import TranscribeOptions, Transcriber

BASE = replace(
    SMALL_WAV2VEC2["base"],
    conv_dim=(512,) * 7,
    n_state=768,
    n_layer=12,
    n_head=12,
    n_intermediate=3072,
    pos_kernel=128,
    pos_groups=16,
)
LARGE = replace(
    SMALL_WAV2VEC2["large"],
    conv_dim=(512,) * 7,
    n_state=1024,
    n_layer=24,
    n_head=16,
    n_intermediate=4096,
    pos_kernel=128,
    pos_groups=16,
)
SIZES = {"base (wav2vec2-base-960h, VoxPopuli)": BASE, "large (XLSR-53, XLS-R 300m)": LARGE}
DEMO = Path(__file__).parents[1] / "examples" / "demo-aligner"


def random_aligner(dims: Wav2Vec2Dimensions, device: str) -> Wav2Vec2Aligner:
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.standard_normal(shape, np.float32) * np.float32(np.prod(shape[1:]) ** -0.5)
        for name, shape in expected_shapes(dims).items()
    }
    return Wav2Vec2Aligner(arrays, dims, device=find_device(device))


def seconds_of(model: Wav2Vec2Aligner, seconds: float, repeats: int) -> float:
    audio = np.random.default_rng(1).standard_normal(round(seconds * SAMPLE_RATE)).astype(np.float32)
    times = []
    for _ in range(1 + repeats):
        start = perf_counter()
        model.emissions([audio], 1)
        times.append(perf_counter() - start)
    return min(times[1:])


def operations(dims: Wav2Vec2Dimensions, n_samples: int) -> float:
    """Multiplications and additions of the products that a recording needs."""
    total, length, n_in = 0, n_samples, 1
    for n_out, kernel, stride in zip(dims.conv_dim, dims.conv_kernel, dims.conv_stride, strict=True):
        length = (length - kernel) // stride + 1
        total += length * n_out * kernel * n_in
        n_in = n_out
    n_state = dims.n_state
    total += length * n_state * (n_in + dims.pos_kernel * n_state // dims.pos_groups + dims.n_labels)
    total += dims.n_layer * length * n_state * (4 * n_state + 2 * dims.n_intermediate + 2 * length)
    return 2.0 * total


def sizes(device: str, seconds: float, repeats: int) -> dict[str, object]:
    gemm = machine(mx.float32 if find_device(device) == mx.cpu else mx.float16)[0]
    print(f"GEMM {gemm / 1e9:.0f} GFLOP/s")
    results = {}
    for name, dims in [*SIZES.items(), ("demo", None)]:
        model = load_wav2vec2(DEMO, device=device)[0] if dims is None else random_aligner(dims, device)
        took = seconds_of(model, seconds, repeats)
        floor = operations(model.dims, round(seconds * SAMPLE_RATE)) / gemm
        results[name] = {"took": took, "floor": floor}
        speed = f"{took:8.3f} s for {seconds:g} s: {seconds / took:6.1f} x real time"
        print(f"{name:40} {speed}, floor {floor:6.3f} s, share {floor / took:4.0%}", flush=True)
    return {"seconds": seconds, "device": device, "gemm": gemm, "sizes": results}


def whole_run(recording: Path, model: Path, device: str) -> dict[str, object]:
    metadata = {"language": "en", "type": "huggingface", "dictionary": {c.lower(): i for i, c in enumerate(LABELS)}}
    options = TranscribeOptions(
        model=str(model), device=device, decoding=DecodingOptions(language="en", beam_size=1, temperatures=(0.0,))
    )
    transcriber, meter = Transcriber(options), Meter()
    with patch("whisperx.transcribe.load_align_model", return_value=(random_aligner(BASE, device), metadata)):
        transcriber(recording, meter=meter)
    total = sum(meter.seconds.values())
    for stage, seconds in meter.seconds.items():
        print(f"{stage:20} {seconds:8.2f} s {seconds / total:6.1%}")
    return {"recording": str(recording), "stages": meter.seconds, "align": meter.seconds["align"] / total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the recording")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", type=Path, metavar="RECORDING", help="through the whole program")
    parser.add_argument("--model", type=Path, help="folder of a Whisper model, for --run")
    args = parser.parse_args()
    if args.run is None:
        result = sizes(args.device, args.seconds, args.repeats)
    elif args.model is None:
        parser.error("--run needs --model FOLDER")
    else:
        result = whole_run(args.run, args.model, args.device)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
