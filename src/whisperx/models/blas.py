"""The BLAS that MLX computes with on a Linux CPU.

The `mlx-cpu` wheel bundles the reference BLAS, which `benchmarks/blas.py` measures as tens of times slower than others.
MLX calls `cblas_sgemm`, and the dynamic linker binds that name, when `mlx.core` is imported, to the first library in
the global scope that has it. So a faster BLAS loaded with RTLD_GLOBAL before MLX stands in for the bundled one.

MKL runs in its strict reproducible mode (MKL_CBWR=AUTO,STRICT): without it, on processors with AVX2 and no AVX-512, a
row of a product depends on which row it is, and on all of them on the number of threads. docs/cpu.md has the figures.
"""

import ctypes
import logging
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from whisperx.errors import BackendError

_SYSTEM_LIBRARIES = ("libopenblas.so.0", "libblis.so.4")

_MKL_CBWR_AUTO_STRICT = 2 | 0x10000  # mkl_types.h: MKL_CBWR_AUTO | MKL_CBWR_STRICT

logger = logging.getLogger(__name__)


def preload() -> None:
    """Load a fast BLAS for MLX to find. To be called once, before the first import of `mlx.core`.

    `WHISPERX_BLAS=/path/lib.so` names the library, `WHISPERX_BLAS=0` keeps the bundled one; otherwise MKL from its
    wheel, else the system's OpenBLAS or BLIS. Does nothing where MLX is not the `mlx-cpu` wheel, and loads nothing if
    a BLAS is in the global scope already (LD_PRELOAD). Raises BackendError for a library named that cannot be used.
    """
    chosen = os.environ.get("WHISPERX_BLAS", "")
    if chosen == "0" or sys.platform != "linux" or not _is_installed("mlx-cpu"):
        return
    if "mlx.core" in sys.modules:
        logger.info("MLX was imported before whisperx: too late for another BLAS than the %s", blas_in_use())
        return
    library = _globally_loaded() or (_load_named(chosen) if chosen else _load_first_found())
    if library is None:
        logger.warning("MLX computes slowly here, with the %s. Mend it with: %s", blas_in_use(), _remedy())
    elif hasattr(library, "MKL_CBWR_Set") and "MKL_CBWR" not in os.environ:
        _make_reproducible(library)


def blas_in_use() -> str:
    """Name, version and file of the library that computes MLX's matrix products on the CPU."""
    if sys.platform != "linux":
        return "Accelerate"
    path = _file_of_sgemm(None) or _file_of_sgemm(_libmlx())
    if path is None:
        return "no BLAS"
    if "mlx_cpu.libs" in path.parts:
        return f"reference BLAS bundled with mlx-cpu ({path.name})"
    return f"{_name_and_version(ctypes.CDLL(str(path)))} ({path.name})"


def set_blas_threads(n: int) -> None:
    """Let the BLAS use `n` threads; 0 leaves it its own choice, usually one for each core."""
    if n == 0:
        return
    library = _globally_loaded()
    for function in ("MKL_Set_Num_Threads", "openblas_set_num_threads", "bli_thread_set_num_threads"):
        if library is not None and hasattr(library, function):
            library[function](ctypes.c_long(n))
            return
    logger.warning("--threads %d: no way to tell the %s", n, blas_in_use())


def loaded_mkl() -> ctypes.CDLL | None:
    """MKL, if MLX computes with it."""
    library = _globally_loaded() if sys.platform == "linux" else None
    return library if library is not None and hasattr(library, "MKL_Get_Version_String") else None


def _globally_loaded() -> ctypes.CDLL | None:
    path = _file_of_sgemm(None)
    return ctypes.CDLL(str(path)) if path else None


def _load_named(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        library.cblas_sgemm  # noqa: B018
    except (OSError, AttributeError) as error:
        raise BackendError(
            f"WHISPERX_BLAS={path} cannot be used: {error}. Give the path of a BLAS with the CBLAS interface, "
            "as /usr/lib/x86_64-linux-gnu/libopenblas.so.0, or 0 for the one bundled with MLX."
        ) from error
    return library


def _load_first_found() -> ctypes.CDLL | None:
    for path in filter(None, (_mkl_of_wheel(), *_SYSTEM_LIBRARIES)):
        try:
            return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            logger.debug("No BLAS from %s: %s", path, error)
    return None


def _mkl_of_wheel() -> str | None:
    """Path of libmkl_rt.so.N, which finds the other libraries of MKL and Intel's OpenMP in its own folder."""
    if not _is_installed("mkl"):
        return None
    files = distribution("mkl").files or []
    return next((str(Path(file.locate()).resolve()) for file in files if file.name.startswith("libmkl_rt.so")), None)


def _make_reproducible(mkl: ctypes.CDLL) -> None:
    status = mkl.MKL_CBWR_Set(_MKL_CBWR_AUTO_STRICT)
    if status != 0:
        logger.warning("MKL has no strict reproducible mode here (status %d): results may vary with --threads", status)


def _remedy() -> str:
    if platform.machine() == "x86_64":
        return "pip install mkl"
    return "apt install libopenblas0 (or your system's package of OpenBLAS)"


def _name_and_version(library: ctypes.CDLL) -> str:
    if hasattr(library, "MKL_Get_Version_String"):
        text = ctypes.create_string_buffer(200)
        library.MKL_Get_Version_String(text, len(text))
        version = re.search(rb"Version ([\d.]+)", text.value)
        return f"MKL {version[1].decode()}" if version else "MKL"
    if hasattr(library, "openblas_get_config"):
        library.openblas_get_config.restype = ctypes.c_char_p
        return " ".join(library.openblas_get_config().decode().split()[:2])  # "OpenBLAS 0.3.21 DYNAMIC_ARCH ..."
    if hasattr(library, "bli_info_get_version_str"):
        library.bli_info_get_version_str.restype = ctypes.c_char_p
        return f"BLIS {library.bli_info_get_version_str().decode()}"
    return "BLAS of unknown make"


def _is_installed(wheel: str) -> bool:
    try:
        distribution(wheel)
    except PackageNotFoundError:
        return False
    return True


def _libmlx() -> str | None:
    spec = find_spec("mlx")
    folders = spec.submodule_search_locations if spec else None
    return next((str(path) for folder in folders or () for path in Path(folder, "lib").glob("libmlx.so")), None)


class _SymbolInfo(ctypes.Structure):
    """Dl_info of dlfcn.h."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def _file_of_sgemm(scope: str | None) -> Path | None:
    """File that `cblas_sgemm` comes from, in the global scope (None) or as the library of the path `scope` sees it."""
    try:
        sgemm = ctypes.CDLL(scope).cblas_sgemm
    except AttributeError:
        return None
    info = _SymbolInfo()
    ctypes.CDLL(None).dladdr(ctypes.cast(sgemm, ctypes.c_void_p), ctypes.byref(info))
    return Path(os.fsdecode(info.file))
