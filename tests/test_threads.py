"""One loaded model, several threads: each gets what it would get alone."""

import os
import subprocess
import sys
from pathlib import Path

from random_whisper import write_talker

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
