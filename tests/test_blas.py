"""Which BLAS answers MLX: each case in an interpreter of its own, since a library once loaded stays."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, files
from pathlib import Path

import numpy
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a BLAS to choose")

ANSWER = """
import json
from whisperx.models import blas
import mlx.core as mx
mx.eval(mx.ones((300, 300)) @ mx.ones((300, 300)))
print(json.dumps(blas.blas_in_use()))
"""

HIDE = """
import importlib.metadata
def find(name, find=importlib.metadata.distribution):
    if name in {hidden}:
        raise importlib.metadata.PackageNotFoundError(name)
    return find(name)
importlib.metadata.distribution = find
"""

NO_SYSTEM_LIBRARIES = """
import ctypes
class CDLL(ctypes.CDLL):
    def __init__(self, name, *args, **kwargs):
        if name and name.startswith(("libopenblas", "libblis")):
            raise OSError("not here")
        super().__init__(name, *args, **kwargs)
ctypes.CDLL = CDLL
"""

LOG_EVERYTHING = "import logging\nlogging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')\n"


def is_installed(wheel: str) -> bool:
    try:
        distribution(wheel)
    except PackageNotFoundError:
        return False
    return True


needs_cpu_wheel = pytest.mark.skipif(not is_installed("mlx-cpu"), reason="MLX is not the CPU wheel here")
needs_mkl = pytest.mark.skipif(
    not (is_installed("mlx-cpu") and is_installed("mkl")), reason="needs mlx-cpu and the mkl wheel"
)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WHISPERX_", "MKL_"))}
    return subprocess.run([sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True)


def answer(code: str, **environment: str) -> object:
    """What a new interpreter prints as its last line, as JSON."""
    process = run(code, **environment)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def mkl_file() -> str:
    return next(str(Path(file.locate()).resolve()) for file in files("mkl") if file.name.startswith("libmkl_rt.so"))


@needs_mkl
def test_mkl_of_its_wheel_is_used_unless_told_otherwise() -> None:
    assert re.fullmatch(r"MKL 20[\d.]+ \(libmkl_rt\.so\.\d+\)", answer(ANSWER))


@needs_mkl
def test_the_engine_has_a_fast_blas_whatever_is_imported_first() -> None:
    answer = "import whisperx.backends.mlx as engine; print(engine.blas_in_use())"
    assert run(answer).stdout.startswith("MKL")


@needs_mkl
def test_mlx_really_calls_the_library_that_is_named() -> None:
    """MKL prints a line for each call when asked to."""
    assert "MKL_VERBOSE SGEMM(N,N,300,300,300" in run(ANSWER, MKL_VERBOSE="1").stdout
    assert "SGEMM" not in run(ANSWER, MKL_VERBOSE="1", WHISPERX_BLAS="0").stdout


@needs_cpu_wheel
def test_zero_keeps_the_bundled_blas_and_loads_no_other() -> None:
    maps = "print(json.dumps(sorted(line.split()[-1] for line in open('/proc/self/maps') if 'mkl' in line)))"
    assert answer(ANSWER, WHISPERX_BLAS="0").startswith("reference BLAS bundled with mlx-cpu (libblas")
    assert answer(ANSWER + maps, WHISPERX_BLAS="0") == []


@needs_mkl
def test_a_library_can_be_named() -> None:
    without_wheel = HIDE.format(hidden=["mkl"]) + NO_SYSTEM_LIBRARIES + ANSWER
    assert answer(without_wheel).startswith("reference BLAS")
    assert answer(without_wheel, WHISPERX_BLAS=mkl_file()).startswith("MKL 20")


def numpys_blas() -> str:
    return next(iter(map(str, Path(numpy.__file__).parents[1].glob("numpy.libs/*openblas*"))), "numpy has no wheel")


@needs_cpu_wheel
@pytest.mark.parametrize(
    ("library", "reason"),
    [
        ("/no/such/libblas.so", "cannot open shared object file"),
        (__file__, "invalid ELF header"),
        ("libm.so.6", "undefined symbol: cblas_sgemm"),
        (numpys_blas(), "cblas_sgemm"),  # OpenBLAS under names of its own
    ],
    ids=["missing", "no library", "no BLAS", "BLAS with other names"],
)
def test_a_named_library_that_cannot_serve_is_an_error_of_one_line(library: str, reason: str) -> None:
    process = run(ANSWER, WHISPERX_BLAS=library)
    last = process.stderr.splitlines()[-1]
    assert process.returncode == 1
    assert last.startswith(f"whisperx.errors.BackendError: WHISPERX_BLAS={library} cannot be used: ")
    assert reason in last or "numpy has no wheel" in library
    assert last.endswith("or 0 for the one bundled with MLX.")


@needs_mkl
def test_a_blas_that_was_preloaded_by_the_user_stays() -> None:
    code = HIDE.format(hidden=["mkl"]) + LOG_EVERYTHING + ANSWER
    assert answer(code, LD_PRELOAD=mkl_file()).startswith("MKL 20")
    assert run(code, LD_PRELOAD=mkl_file()).stderr == ""


@needs_mkl
def test_without_a_fast_blas_one_warning_says_what_mends_it() -> None:
    process = run(HIDE.format(hidden=["mkl"]) + NO_SYSTEM_LIBRARIES + LOG_EVERYTHING + ANSWER)
    assert process.returncode == 0
    (line,) = process.stderr.splitlines()
    assert line.startswith("WARNING MLX computes slowly here, with the reference BLAS")
    assert "install" in line


@needs_mkl
def test_where_mlx_came_first_a_message_says_that_it_is_too_late() -> None:
    process = run(LOG_EVERYTHING + "import mlx.core\n" + ANSWER)
    assert json.loads(process.stdout).startswith("reference BLAS")
    (line,) = process.stderr.splitlines()
    assert line.startswith("INFO MLX was imported before whisperx: too late for another BLAS than the reference BLAS")


@needs_cpu_wheel
def test_nothing_is_loaded_for_another_build_of_mlx() -> None:
    process = run(HIDE.format(hidden=["mlx-cpu"]) + LOG_EVERYTHING + ANSWER)
    assert json.loads(process.stdout).startswith("reference BLAS")
    assert process.stderr == ""


@needs_mkl
def test_the_number_of_threads_is_what_was_asked_for() -> None:
    code = """
import ctypes, json
from whisperx.models import blas
count = ctypes.CDLL(None).MKL_Get_Max_Threads
ctypes.CDLL(None).MKL_Set_Dynamic(0)  # else it grants no more than there are cores
before = count()
blas.set_blas_threads(0)
assert count() == before
blas.set_blas_threads(3)
print(json.dumps(count()))
"""
    assert answer(code) == 3


@needs_cpu_wheel
def test_threads_for_a_blas_that_has_one_are_refused_aloud() -> None:
    code = "blas.set_blas_threads(0)\nblas.set_blas_threads(4)"
    (line,) = run(LOG_EVERYTHING + ANSWER + code, WHISPERX_BLAS="0").stderr.splitlines()
    assert line.startswith("WARNING --threads 4: no way to tell the reference BLAS bundled with mlx-cpu")


PRODUCTS = """
import hashlib, json
from whisperx.models import blas
import mlx.core as mx
def digest(array):
    return hashlib.sha256(memoryview(array)).hexdigest()
mx.random.seed(0)
x, w = mx.random.normal((48, 384)), mx.random.normal((384, 384))
found = []
for threads in (1, 2):
    blas.set_blas_threads(threads)
    for n in (1, 2, 3, 4, 8, 15, 16, 24, 32, 48):
        found.append(digest((x[:n] @ w.T)[0]))  # of the same row, among n
        found.append(digest((mx.concatenate([x[1:n], x[:1]]) @ w.T)[n - 1]))  # and as the last of them
print(json.dumps(sorted(set(found))))
"""


@needs_mkl
@pytest.mark.parametrize("instructions", ["AVX512", "AVX2"])
def test_a_row_keeps_its_bits_among_any_others_and_with_any_number_of_threads(instructions: str) -> None:
    assert len(answer(PRODUCTS, MKL_ENABLE_INSTRUCTIONS=instructions)) == 1


@needs_mkl
@pytest.mark.skipif(
    sys.platform == "linux" and "GenuineIntel" not in Path("/proc/cpuinfo").read_text(),
    reason="known of MKL on Intel's processors",
)
def test_without_the_reproducible_mode_it_would_not() -> None:
    assert len(answer(PRODUCTS, MKL_ENABLE_INSTRUCTIONS="AVX2", MKL_CBWR="AUTO")) > 1
