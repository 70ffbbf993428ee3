"""What each type of weights costs and brings: size on disk, time to load, memory, speed and errors.

    python -m benchmarks.compute_types AUDIO [AUDIO ...] --model MODEL --references FILE [--seconds 200]

MODEL is converted to each type with `whisperx.convert`, into a folder that is deleted afterwards. Each folder decodes
the same recordings in processes of its own: greedy, without fallback, so that nothing but the weights differs. AUDIO
and FILE are as for benchmarks/batch.py; of the recordings the first `--seconds` are taken. Times are the best of
`--repeats` processes, since whatever else the machine does can only add time. `peak` is the most memory that a process
has held, `MLX` the most that MLX has held of it or, on a GPU, beside it. `changed` counts words that differ from those
of the first type. A CPU expands every type to float32, so there the last columns tell of rounding alone. The last line
is JSON.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import jiwer

import whisperx.models  # noqa: F401 before MLX, which takes the BLAS that is loaded by then

# isort: split
import mlx.core as mx

from benchmarks.batch import joined, recordings, spoken_words, timed, versions, word_error_rate, words
from whisperx.asr import load_model
from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.convert import convert

TYPES = {
    "float32": {"dtype": "float32"},
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"bits": 8},
    "int4": {"bits": 4},
}
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


def first_seconds(files: list[Path], seconds: float) -> list[Path]:
    """As many recordings as it takes, at least one."""
    chosen: list[Path] = []
    while files[len(chosen) :] and seconds > 0:
        chosen.append(files[len(chosen)])
        seconds -= len(load_audio(chosen[-1])) / SAMPLE_RATE
    return chosen


def measure(folder: Path, files: list[Path], references: Path, device: str) -> dict[str, object]:
    start = perf_counter()
    pipeline = load_model(
        folder, device=device, asr_options={"beam_size": 1, "temperatures": 0.0}, threads=0, backend="mlx"
    )
    load_seconds = perf_counter() - start
    audio = joined(files)
    timed(pipeline, audio[: 40 * SAMPLE_RATE], 8)
    seconds, _, result = timed(pipeline, audio, 8)
    return {
        "load_seconds": load_seconds,
        "times_real_time": len(audio) / SAMPLE_RATE / seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT / 1e6,
        "mlx_mb": mx.get_peak_memory() / 1e6,
        "word_error_rate": word_error_rate(result, spoken_words(files, references)),
        "text": " ".join(words(segment["text"]) for segment in result["segments"]),
    }


def measured_apart(folder: Path, arguments: list[str]) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.compute_types", *arguments, "--measure", str(folder)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--references", required=True, type=Path)
    parser.add_argument("--seconds", default=200, type=float)
    parser.add_argument("--repeats", default=2, type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--measure", type=Path, metavar="FOLDER", help="one converted folder: what each process is for")
    args = parser.parse_args()
    files = first_seconds(recordings(args.audio), args.seconds)
    if args.measure:
        print(json.dumps(measure(args.measure, files, args.references, args.device)))
        return

    runs: dict[str, list[dict[str, object]]] = {name: [] for name in TYPES}
    sizes = {}
    with tempfile.TemporaryDirectory() as converted:
        for name, settings in TYPES.items():
            convert(args.model, Path(converted, name), **settings)
            sizes[name] = Path(converted, name, "weights.safetensors").stat().st_size / 1e6
        for _ in range(args.repeats):
            for name in TYPES:
                runs[name].append(measured_apart(Path(converted, name), sys.argv[1:]))

    seconds = sum(len(load_audio(file)) for file in files) / SAMPLE_RATE
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {len(files)} recordings, {seconds:.0f} s, {platform.platform()}, {versions()}"
    )
    print("type      weights MB  load s  peak MB  MLX MB  x real time    WER  words changed")
    first, table = next(iter(TYPES)), []
    for name, repeats in runs.items():
        row = {
            "type": name,
            "weights_mb": round(sizes[name], 1),
            "load_seconds": round(min(run["load_seconds"] for run in repeats), 2),
            "peak_mb": round(max(run["peak_mb"] for run in repeats)),
            "mlx_mb": round(max(run["mlx_mb"] for run in repeats)),
            "times_real_time": round(max(run["times_real_time"] for run in repeats), 1),
            "word_error_rate": round(repeats[0]["word_error_rate"], 4),
            "words_changed": round(jiwer.wer(runs[first][0]["text"], repeats[0]["text"]), 4),
        }
        table.append(row)
        print(
            f"{name:<8} {row['weights_mb']:>11} {row['load_seconds']:>7} {row['peak_mb']:>8} {row['mlx_mb']:>7} "
            f"{row['times_real_time']:>12} {row['word_error_rate']:>6.1%} {row['words_changed']:>14.1%}"
        )
    print(json.dumps({"audio_seconds": round(seconds, 1), "versions": versions(), "types": table}))


if __name__ == "__main__":
    main()
