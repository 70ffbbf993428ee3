"""How long until something happens: help, import, loading a model, the first words of a long recording.

    python -m benchmarks.startup AUDIO --model MODEL [--repeats 5]

Each line is a process of its own, best of `--repeats` after one that is not counted, so that files are in memory and
modules are compiled.
Two more are of the command with AUDIO repeated to 10 minutes, from the start of the process, with its defaults (five
beams, fallback) but for `--no_align`: until the `first token` is chosen, and until it prints the `first words`, which
comes when a whole chunk of 30 s is done. The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import wave
from pathlib import Path
from time import perf_counter

import numpy as np

from whisperx.audio import SAMPLE_RATE, load_audio

COMMAND = [sys.executable, "-m", "whisperx"]
LOAD = """
import sys, time
from whisperx.asr import load_model
import whisperx.backends.mlx
start = time.perf_counter()
load_model(sys.argv[1], asr_options={}, language="en", backend="mlx")
print(time.perf_counter() - start)
"""


UNTIL_FIRST = """
import os, sys
from whisperx import cli, schema

class FirstToken(schema.Meter):
    def add_seconds(self, stage, seconds):
        if stage == "decode tokens":  # the prompt of the first chunk is read, its first token chosen
            os._exit(0)
        super().add_seconds(stage, seconds)

schema.Meter = FirstToken
sys.exit(cli.main(sys.argv[1:]) or "no token was chosen")
"""


def best(command: list[str], repeats: int) -> float:
    """Seconds of a whole process."""
    times = []
    for _ in range(repeats + 1):
        start = perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(perf_counter() - start)
    return min(times[1:])


def best_load(model: str, repeats: int) -> float:
    """Seconds that `load_model` takes in a process that has imported it."""
    command = [sys.executable, "-c", LOAD, model]
    return min(
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(repeats + 1)
    )


def first_words(command: list[str], repeats: int) -> float:
    """Seconds until a process prints its first line."""
    times = []
    for _ in range(repeats + 1):
        start = perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        process.stdout.readline()
        times.append(perf_counter() - start)
        process.kill()
        process.communicate()
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    audio = load_audio(args.audio)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled modules are kept, as in an installed package
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder, "ten_minutes.wav")
        with wave.open(str(recording), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes((np.resize(audio, 600 * SAMPLE_RATE) * 32767).astype("<i2").tobytes())
        transcribe = [str(recording), "--model", args.model, "--backend", "mlx", "--no_align", "--output_dir", folder]
        figures = {
            "python": best([sys.executable, "-c", "pass"], args.repeats),
            "whisperx --help": best([*COMMAND, "--help"], args.repeats),
            "import whisperx": best([sys.executable, "-c", "import whisperx"], args.repeats),
            "load_model": best_load(args.model, args.repeats),
            "first token": best([sys.executable, "-c", UNTIL_FIRST, *transcribe], args.repeats),
            "first words": first_words([*COMMAND, *transcribe], min(args.repeats, 2)),
        }
    for name, seconds in figures.items():
        print(f"{name:16} {seconds:6.3f} s")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
