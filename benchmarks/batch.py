"""What batching brings on this machine: the same recordings at several batch sizes, in one run.

    python -m benchmarks.batch AUDIO [AUDIO ...] --model MODEL [--batch_sizes 1,4,8,16] [--references FILE]

AUDIO are recordings, or folders of them, which are joined to one recording (a pause of half a second between them) so
that short clips make full chunks. Times exclude loading the model and decoding the audio file, which do not depend on
the batch. Sizes take turns over `--repeats` rounds after one round that is not counted; the table shows medians.
`identical` tells whether text, times and probabilities are those of the first size to the last bit: they must be. With
`--references` (JSON lines with "file" and "text"), the word error rate is printed too, on lower-case words without
punctuation. At the end stands what `--batch_size auto` takes on this machine. The last line is JSON.
"""

import argparse
import json
import platform
import re
import statistics
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import jiwer
import numpy as np

from whisperx.asr import FasterWhisperPipeline, load_model
from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.schema import Audio, Meter, TranscriptionResult

STAGES = ("vad", "mel", "encode", "decode tokens")


def versions() -> dict[str, str]:
    return {package: version(package) for package in ("whisperx-mlx", "mlx", "numpy")}


def recordings(paths: list[Path]) -> list[Path]:
    found = [file for path in paths for file in (sorted(path.rglob("*.flac")) if path.is_dir() else [path])]
    return [file for file in found if file.is_file()]


def joined(files: list[Path]) -> Audio:
    pause = np.zeros(SAMPLE_RATE // 2, np.float32)
    return np.concatenate([part for file in files for part in (load_audio(file), pause)])


def timed(pipeline: FasterWhisperPipeline, audio: Audio, batch_size: int) -> tuple[float, Meter, TranscriptionResult]:
    meter, start = Meter(), perf_counter()
    result = pipeline.transcribe(audio, batch_size=batch_size, meter=meter)
    return perf_counter() - start, meter, result


def words(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.lower()))


def spoken_words(files: list[Path], references: Path) -> str:
    """What is said in the joined recordings."""
    rows = [json.loads(line) for line in references.read_text("utf-8").splitlines()]
    texts = {Path(row["file"]).stem: row["text"] for row in rows}
    return words(" ".join(texts[file.stem] for file in files))


def word_error_rate(result: TranscriptionResult, expected: str) -> float:
    """Over the joined recordings, so that a chunk may hold the end of one clip and the beginning of the next."""
    return jiwer.wer(expected, words(" ".join(segment["text"] for segment in result["segments"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch_sizes", default="1,4,8,16", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compute_type", default="default")
    parser.add_argument("--beam_size", type=int, default=1)
    parser.add_argument("--references", type=Path)
    args = parser.parse_args()

    files = recordings(args.audio)
    audio = joined(files)
    seconds = len(audio) / SAMPLE_RATE
    # One try for each chunk: how many need another depends on the recordings.
    pipeline = load_model(
        args.model,
        device=args.device,
        compute_type=args.compute_type,
        asr_options={"beam_size": args.beam_size, "temperatures": 0.0},
        backend="mlx",
    )
    print(
        f"{len(files)} recordings, {seconds:.0f} s, model {args.model}, {pipeline.device}, {platform.platform()}, "
        f"{versions()}"
    )

    for size in args.batch_sizes:
        timed(pipeline, audio[: 40 * SAMPLE_RATE], size)
    runs = {size: [] for size in args.batch_sizes}
    for _ in range(args.repeats):
        for size in args.batch_sizes:
            runs[size].append(timed(pipeline, audio, size))

    first = runs[args.batch_sizes[0]][0][2]
    base = statistics.median(run[0] for run in runs[args.batch_sizes[0]])
    print(
        f"{'batch':>5} {'seconds':>8} {'x real time':>11} {'speed-up':>8} {'identical':>9} {'occupancy':>9}",
        *STAGES,
        sep="  ",
    )
    table = []
    for size, repeats in runs.items():
        wall = statistics.median(run[0] for run in repeats)
        stages = {stage: statistics.median(run[1].seconds.get(stage, 0.0) for run in repeats) for stage in STAGES}
        counts = repeats[0][1].counts
        row = {
            "batch_size": size,
            "seconds": round(wall, 3),
            "times_real_time": round(seconds / wall, 2),
            "speed_up": round(base / wall, 2),
            "identical": all(run[2] == first for run in repeats),
            "occupancy": round(counts["live_rows"] / max(1, counts["rows"]), 3),
            "stages": {stage: round(value, 3) for stage, value in stages.items()},
        }
        table.append(row)
        shares = "  ".join(f"{stages[stage] / wall:>{len(stage)}.0%}" for stage in STAGES)
        print(
            f"{size:>5} {wall:>8.2f} {row['times_real_time']:>11.1f} {row['speed_up']:>8.2f} "
            f"{row['identical']!s:>9} {row['occupancy']:>9.0%}  {shares}"
        )
    summary = {
        "audio_seconds": round(seconds, 1),
        "model": str(args.model),
        "device": pipeline.device,
        "compute_type": args.compute_type,
        "beam_size": args.beam_size,
        "versions": versions(),
        "auto": pipeline.best_batch_size(pipeline.options),
        "runs": table,
    }
    fastest = min(table, key=lambda row: row["seconds"])["batch_size"]
    print(f"--batch_size auto takes {summary['auto']} here; the fastest of these was {fastest}")
    if args.references:
        summary["word_error_rate"] = round(word_error_rate(first, spoken_words(files, args.references)), 4)
        print(f"word error rate {summary['word_error_rate']:.1%}")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
