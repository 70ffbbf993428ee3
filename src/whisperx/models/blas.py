"""Which BLAS networks on a CPU compute with: MKL where its wheel is installed, else the one that NumPy brings.

MKL is loaded with RTLD_GLOBAL before MLX, whose wheel for Linux CPUs bundles the reference BLAS: so it serves what MLX
computes there, too, as networks in 16 bits do.

It runs in its strict reproducible mode (MKL_CBWR=AUTO,STRICT): without it, on processors with AVX2 and no AVX-512, a
row of a product depends on which row it is, and on all of them on the number of threads. docs/cpu.md has the figures.
"""

import ctypes
import logging
import os
import platform
import re
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from whisperx.errors import BackendError

_MKL_CBWR_AUTO_STRICT = 2 | 0x10000  # mkl_types.h: MKL_CBWR_AUTO | MKL_CBWR_STRICT

logger = logging.getLogger(__name__)


def preload() -> None:
    """Load MKL for this process. To be called once, before the first import of `mlx.core`.

    `WHISPERX_MKL=/path/libmkl_rt.so` names the library, `WHISPERX_MKL=0` leaves it out. Does nothing but on Linux, and
    loads nothing where MKL is there already (LD_PRELOAD). Raises BackendError for a library that cannot be used.
    """
    chosen = os.environ.get("WHISPERX_MKL", "")
    if chosen == "0" or sys.platform != "linux":
        return
    path = chosen or _mkl_of_wheel()
    if loaded_mkl() is None and path is not None:
        _load(path)
    mkl = loaded_mkl()
    if mkl is not None and "MKL_CBWR" not in os.environ:
        _make_reproducible(mkl)


def loaded_mkl() -> ctypes.CDLL | None:
    """MKL, if it is there for the whole process."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "MKL_Get_Version_String") else None


def blas_in_use() -> str:
    """Name and version of the library that computes matrix products on the CPU."""
    mkl = loaded_mkl()
    return _blas_of_numpy() if mkl is None else _version_of(mkl)


def advice() -> str | None:
    """What would make this CPU compute faster."""
    could_have_mkl = sys.platform == "linux" and platform.machine() == "x86_64"
    return "faster with MKL: pip install mkl" if could_have_mkl and loaded_mkl() is None else None


def set_blas_threads(n: int) -> None:
    """Let every BLAS of the process use `n` threads; 0 leaves them their own choice, usually one for each core."""
    if n > 0:
        threadpool_limits(n, user_api="blas")


def _load(path: str) -> None:
    try:
        library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        library.MKL_Get_Version_String  # noqa: B018
    except (OSError, AttributeError) as error:
        raise BackendError(
            f"{path} cannot be used as MKL: {error}. Set WHISPERX_MKL to the path of libmkl_rt.so, or to 0 to do "
            "without."
        ) from error


def _mkl_of_wheel() -> str | None:
    """Path of libmkl_rt.so.N, which finds the other libraries of MKL and Intel's OpenMP in its own folder."""
    try:
        files = distribution("mkl").files or []
    except PackageNotFoundError:
        return None
    return next((str(Path(file.locate()).resolve()) for file in files if file.name.startswith("libmkl_rt.so")), None)


def _make_reproducible(mkl: ctypes.CDLL) -> None:
    status = mkl.MKL_CBWR_Set(_MKL_CBWR_AUTO_STRICT)
    if status != 0:
        logger.warning("MKL has no strict reproducible mode here (status %d): results may vary with --threads", status)


def _version_of(mkl: ctypes.CDLL) -> str:
    text = ctypes.create_string_buffer(200)
    mkl.MKL_Get_Version_String(text, len(text))
    version = re.search(rb"Version ([\d.]+)", text.value)
    return f"MKL {version[1].decode()}" if version else "MKL"


@cache
def _blas_of_numpy() -> str:
    built_with = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"NumPy's {built_with['name']} {built_with['version']}"
