"""One loaded model, several threads: each gets what it would get alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from random_whisper import write_talker

from whisperx.models.blas import blas_in_use

SCRIPT = """
import sys, threading
from pathlib import Path
from random_whisper import random_speech
from test_batch_invariance import decode
from whisperx.backends.mlx import MlxBackend

backend = MlxBackend(Path(sys.argv[1]))
chunks = [random_speech(2 + seed, seed) for seed in range(4)]
alone = decode(backend, chunks, 2)
results = {}

def work(i):
    results[i] = [decode(backend, chunks, i + 1), decode(backend, chunks[::-1], 3)[::-1]]

threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(result == [alone, alone] for result in results.values()))
"""


def test_threads_that_decode_at_once_get_what_each_gets_alone_and_the_process_ends_well(tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(write_talker(tmp_path))],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
    )
    assert (process.stdout, process.stderr, process.returncode) == ("3\n", "", 0)


BYTES = """
import sys, zlib
from pathlib import Path
from random_whisper import random_speech
from test_batch_invariance import decode
from whisperx.backends.mlx import MlxBackend
from whisperx.schema import Meter
import numpy as np

backend = MlxBackend(Path(sys.argv[1]), device="cpu")
backend.use_threads(int(sys.argv[2]))
chunk = random_speech(20, 1)
(result,) = decode(backend, [chunk], 1)
with backend._on_device():
    heard = backend._encode(chunk, Meter()).cross
print(result.tokens, result.avg_logprob, zlib.crc32(b"".join(np.asarray(x).tobytes() for pair in heard for x in pair)))
"""


@pytest.mark.skipif("MKL" not in blas_in_use(), reason="docs/cpu.md says which other BLAS keep the bits")
def test_results_are_the_same_bytes_with_one_thread_and_with_two(tmp_path):
    folder = write_talker(tmp_path)
    assert len(outputs_by_threads(BYTES, str(folder))) == 1


TURNS = """
import sys
from pathlib import Path
from whisperx.audio import load_audio
from whisperx.speaker_turns import diarize

print(diarize(load_audio(Path(sys.argv[1]))))
"""


@pytest.mark.skipif("MKL" not in blas_in_use(), reason="docs/cpu.md says which other BLAS keep the bits")
def test_turns_and_voices_are_the_same_bytes_with_one_thread_and_with_two(demo_audio: Path):
    (output,) = outputs_by_threads(TURNS, str(demo_audio))
    assert "SPEAKER_00" in output


def outputs_by_threads(script: str, argument: str) -> set[str]:
    """What a script prints, told `argument` and how many threads there are: one, then two."""
    outputs = set()
    for n_threads in ("1", "2"):
        variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), n_threads)
        process = subprocess.run(
            [sys.executable, "-c", script, argument, n_threads],
            env=os.environ | variables | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        outputs.add(process.stdout)
    return outputs
