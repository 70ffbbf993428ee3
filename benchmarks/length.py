"""How cost grows with the length of a recording: time should be linear, memory flat but for the samples.

    python -m benchmarks.length AUDIO --model MODEL [--minutes 1,10,60,180]

AUDIO is repeated to each length. Each is a process of its own that transcribes it greedily, one try for each chunk;
loading the model is not counted. `memory` is the most that the process held, `beyond samples` that less the samples
(float32, 16 kHz). The last line is JSON.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from whisperx.audio import SAMPLE_RATE, load_audio

WORKER = """
import json, resource, sys, time
import numpy as np
from whisperx.asr import load_model
from whisperx.audio import SAMPLE_RATE
from benchmarks.length import repeated
audio = repeated(sys.argv[1], float(sys.argv[3]))
pipeline = load_model(sys.argv[2], asr_options={"beam_size": 1, "temperatures": 0.0}, language="en", backend="mlx")
start = time.perf_counter()
result = pipeline.transcribe(audio, batch_size=8)
seconds = time.perf_counter() - start
unit = 1 if sys.platform == "darwin" else 1024
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(json.dumps({"seconds": seconds, "memory": memory, "samples": audio.nbytes, "segments": len(result["segments"])}))
"""


def repeated(path: str, minutes: float) -> np.ndarray:
    return np.resize(load_audio(path), round(60 * minutes * SAMPLE_RATE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--minutes", default="1,10,60,180", type=lambda text: [float(n) for n in text.split(",")])
    args = parser.parse_args()

    print(f"{'minutes':>7} {'seconds':>8} {'x real time':>11} {'memory':>8} {'beyond samples':>15}")
    rows = []
    for minutes in args.minutes:
        command = [sys.executable, "-c", WORKER, str(args.audio), args.model, str(minutes)]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        rows.append({"minutes": minutes} | row)
        beyond = (row["memory"] - row["samples"]) / 1e6
        speed = 60 * minutes / row["seconds"]
        print(
            f"{minutes:>7g} {row['seconds']:>8.1f} {speed:>11.1f} {row['memory'] / 1e6:>5.0f} MB {beyond:>12.0f} MB",
            flush=True,
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
