"""Which BLAS answers: each case in an interpreter of its own, since a library once loaded stays."""

import json
import os
import platform
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
print(json.dumps(blas.blas_in_use()))
"""

HIDE_MKL = """
import importlib.metadata
def find(name, find=importlib.metadata.distribution):
    if name == "mkl":
        raise importlib.metadata.PackageNotFoundError(name)
    return find(name)
importlib.metadata.distribution = find
"""

LOG_EVERYTHING = "import logging\nlogging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')\n"


def is_installed(wheel: str) -> bool:
    try:
        distribution(wheel)
    except PackageNotFoundError:
        return False
    return True


needs_mkl = pytest.mark.skipif(not is_installed("mkl"), reason="needs the mkl wheel")


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
    assert re.fullmatch(r"MKL 20[\d.]+", answer(ANSWER))
    assert re.fullmatch(r"MKL 20[\d.]+", answer("import mlx.core\n" + ANSWER))


@needs_mkl
def test_the_engine_has_a_fast_blas_whatever_is_imported_first() -> None:
    answer = "import whisperx.backends.mlx as engine; print(engine.blas_in_use())"
    assert run(answer).stdout.startswith("MKL")


@needs_mkl
@pytest.mark.parametrize(
    "product",
    [
        "import mlx.core as mx; mx.eval(mx.ones((300, 300)) @ mx.ones((300, 300)))",
        "import numpy as np; from whisperx.models.host import host_math; "
        "x = np.ones((300, 300), np.float32); host_math().multiply(x, x, np.empty_like(x))",
    ],
    ids=["MLX", "the host"],
)
def test_products_really_come_from_mkl(product: str) -> None:
    """MKL prints a line for each call when asked to."""
    if "mlx" in product and not is_installed("mlx-cpu"):
        pytest.skip("MLX is not the CPU wheel here")
    code = f"import whisperx.models; {product}"
    assert "MKL_VERBOSE SGEMM(N,N,300,300,300" in run(code, MKL_VERBOSE="1").stdout
    assert "SGEMM" not in run(code, MKL_VERBOSE="1", WHISPERX_MKL="0").stdout


def test_zero_leaves_mkl_out() -> None:
    maps = "print(json.dumps(sorted(line.split()[-1] for line in open('/proc/self/maps') if 'mkl' in line)))"
    assert answer(ANSWER, WHISPERX_MKL="0").startswith("NumPy's ")
    assert answer(ANSWER + maps, WHISPERX_MKL="0") == []


@needs_mkl
def test_a_library_can_be_named() -> None:
    assert answer(HIDE_MKL + ANSWER).startswith("NumPy's ")
    assert answer(HIDE_MKL + ANSWER, WHISPERX_MKL=mkl_file()).startswith("MKL 20")


def numpys_blas() -> str:
    return next(iter(map(str, Path(numpy.__file__).parents[1].glob("numpy.libs/*openblas*"))), "/no/wheel")


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        ("/no/such/libmkl_rt.so", "cannot open shared object file"),
        (__file__, "invalid ELF header"),
        ("libm.so.6", "undefined symbol"),
        (numpys_blas(), "undefined symbol"),
    ],
    ids=["missing", "no library", "no BLAS", "another BLAS"],
)
def test_a_named_library_that_cannot_serve_is_an_error_of_one_line(library: str, reason: str) -> None:
    process = run(ANSWER, WHISPERX_MKL=library)
    last = process.stderr.splitlines()[-1]
    assert process.returncode == 1
    assert last.startswith(f"whisperx.errors.BackendError: {library} cannot be used as MKL: ")
    assert reason in last or library == "/no/wheel"
    assert last.endswith("Set WHISPERX_MKL to the path of libmkl_rt.so, or to 0 to do without.")


@needs_mkl
def test_mkl_that_was_preloaded_by_the_user_stays() -> None:
    code = HIDE_MKL + LOG_EVERYTHING + ANSWER
    assert answer(code, LD_PRELOAD=mkl_file()).startswith("MKL 20")
    assert run(code, LD_PRELOAD=mkl_file()).stderr == ""


@needs_mkl
@pytest.mark.skipif(platform.machine() != "x86_64", reason="MKL is for x86-64")
def test_without_mkl_there_is_a_hint() -> None:
    hint = "print(json.dumps(blas.advice()))"
    assert answer(ANSWER + hint) is None
    assert answer(HIDE_MKL + ANSWER + hint) == "faster with MKL: pip install mkl"


THREADS = """
import json
from threadpoolctl import threadpool_info
from whisperx.models import blas
import numpy
def threads():
    return sorted(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
before = threads()
blas.set_blas_threads(0)
assert threads() == before
blas.set_blas_threads(1)
print(json.dumps(threads()))
"""


@pytest.mark.parametrize("environment", [{}, {"WHISPERX_MKL": "0"}], ids=["MKL", "NumPy's"])
def test_the_number_of_threads_is_what_was_asked_for(environment: dict[str, str]) -> None:
    assert set(answer(THREADS, **environment)) == {1}


PRODUCTS = """
import hashlib, json
import numpy as np
from whisperx.models import blas
from whisperx.models.host import host_math
rng = np.random.default_rng(0)
x, w = rng.standard_normal((48, 384), np.float32), rng.standard_normal((384, 384), np.float32)
def digest(rows, place):
    out = np.empty((len(rows), 384), np.float32)
    host_math().multiply(rows, w.T, out)
    return hashlib.sha256(out[place]).hexdigest()
found = []
for threads in (1, 2):
    blas.set_blas_threads(threads)
    for n in (1, 2, 3, 4, 8, 15, 16, 24, 32, 48):
        found.append(digest(x[:n], 0))  # of the same row, among n
        found.append(digest(np.concatenate([x[1:n], x[:1]]), n - 1))  # and as the last of them
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
