"""How long alignment networks take on this machine, by family and size.

    .venv/bin/python -m benchmarks.aligners --device cpu --seconds 10 --repeats 3

Each network has the size of a published one and random weights, which take as long as trained ones; `demo` is
examples/demo-aligner. One recording of `seconds` is heard at a time, as the program does it. The minimum of the repeats
counts: what makes a run slower than that is something else on the machine. The last line is JSON.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from whisperx.audio import SAMPLE_RATE
from whisperx.models.devices import find_device
from whisperx.models.wav2vec2 import STRIDES, Wav2Vec2Aligner, Wav2Vec2Dimensions, expected_shapes, load_wav2vec2

BASE = Wav2Vec2Dimensions(
    conv_dim=(512,) * 7,
    conv_kernel=(10, 3, 3, 3, 3, 2, 2),
    conv_stride=STRIDES,
    conv_bias=False,
    conv_norm="group",
    n_state=768,
    n_layer=12,
    n_head=12,
    n_intermediate=3072,
    pos_kernel=128,
    pos_groups=16,
    stable_layer_norm=False,
    feature_norm=True,
    n_labels=32,
)
LARGE = replace(
    BASE,
    conv_bias=True,
    conv_norm="layer",
    n_state=1024,
    n_layer=24,
    n_head=16,
    n_intermediate=4096,
    stable_layer_norm=True,
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the recording")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    results = {}
    for name, dims in [*SIZES.items(), ("demo", None)]:
        model = load_wav2vec2(DEMO, device=args.device)[0] if dims is None else random_aligner(dims, args.device)
        results[name] = seconds_of(model, args.seconds, args.repeats)
        print(
            f"{name:40} {results[name]:8.3f} s for {args.seconds:g} s: {args.seconds / results[name]:6.1f} x real time"
        )
    print(json.dumps({"seconds": args.seconds, "device": args.device, "took": results}))


if __name__ == "__main__":
    main()
