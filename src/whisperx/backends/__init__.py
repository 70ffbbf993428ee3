"""Engines that run a model, and those of them that this process has loaded."""

import gc
import logging
import os
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from whisperx.backends.host_memory import give_back
from whisperx.backends.model_files import fingerprint
from whisperx.errors import BackendError, OptionError
from whisperx.schema import Backend

if TYPE_CHECKING:
    from whisperx.backends.mlx import MlxBackend

BACKENDS = ("auto", "mlx", "ctranslate2")
MAX_LOADED = 2  # kept after use: the newest, and the one before for whoever goes back and forth

_loaded: dict[tuple[object, ...], Backend] = {}  # in the order in which they were asked for last
_lock = threading.Lock()

logger = logging.getLogger(__name__)


def load_backend(
    name: str,
    model: Path,
    *,
    device: str = "auto",
    device_index: int = 0,
    compute_type: str = "default",
    threads: int = 0,
) -> Backend:
    """An engine with a model: the one that is loaded already if its files, device and types are the same.

    name : "mlx", "ctranslate2", or "auto": see `choose_backend`
    model : folder or weights file
    device, device_index, compute_type : as `whisperx.load_model` takes them
    threads : on a CPU, no more than it has cores; 0: as many as the engine chooses. With MLX they are its BLAS's, for
        all models from now on.

    The `MAX_LOADED` models asked for last are kept until `release_models`. Raises CheckpointError, OptionError, and
    BackendError for an engine that is not installed.
    """
    if name not in BACKENDS:
        raise OptionError(f"Invalid backend: {name}; expected one of {', '.join(BACKENDS)}.")
    if name == "auto":
        name = choose_backend(device=device, compute_type=compute_type)
    threads = min(threads, _n_cores())  # more would wait for each other
    load = _load_mlx if name == "mlx" else _load_ctranslate2
    key = (name, *fingerprint(model), device, device_index, compute_type, threads if name == "ctranslate2" else None)
    with _lock:  # held while loading: whoever asks for the same model meanwhile gets this one
        backend = _loaded.pop(key, None)
        if backend is None:
            while len(_loaded) >= MAX_LOADED:  # before there is one more in memory
                del _loaded[next(iter(_loaded))]
            backend = load(model, device, device_index, compute_type, threads)
        _loaded[key] = backend
    if name == "mlx":
        cast("MlxBackend", backend).use_threads(threads)
    return backend


def _n_cores() -> int:
    """Of this machine, or those of them that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def choose_backend(*, device: str = "auto", compute_type: str = "default") -> str:
    """The engine for this machine: "mlx" where that has a GPU, elsewhere "ctranslate2" if it is installed.

    What only one of them can do decides first: Apple's GPUs, weights of 4 bits.
    """
    kind = device.lower().partition(":")[0]
    if kind in ("mps", "metal", "mlx") or compute_type == "int4" or (kind != "cpu" and _mlx_has_gpu()):
        return "mlx"
    if find_spec("ctranslate2") is not None:
        return "ctranslate2"
    logger.info("backend auto: mlx. For a CPU there is CTranslate2, too: pip install 'whisperx-mlx[ctranslate2]'")
    return "mlx"


def _mlx_has_gpu() -> bool:
    try:
        from whisperx.backends.mlx import has_gpu
    except ImportError:
        return False
    return has_gpu()


def _load_mlx(model: Path, device: str, device_index: int, compute_type: str, threads: int) -> Backend:
    try:
        from whisperx.backends.mlx import MlxBackend
    except ImportError as error:
        raise BackendError(
            "MLX is not installed for this machine. On Linux: pip install 'whisperx-mlx[cpu]', or [cuda13], [cuda12] "
            f"for an NVIDIA GPU. ({error})"
        ) from error
    return MlxBackend(model, device=device, device_index=device_index, compute_type=compute_type)


def _load_ctranslate2(model: Path, device: str, device_index: int, compute_type: str, threads: int) -> Backend:
    try:
        from whisperx.backends.ctranslate2 import CTranslate2Backend
    except ImportError as error:
        raise BackendError(
            f"CTranslate2 is not installed for this machine: pip install 'whisperx-mlx[ctranslate2]'. ({error})"
        ) from error
    return CTranslate2Backend(
        model,
        device=device,
        device_index=device_index,
        compute_type=compute_type,
        threads=threads,
    )


def release_models() -> None:
    """Forget all loaded models and return the memory of those that nothing else holds."""
    with _lock:
        _loaded.clear()
    gc.collect()
    if "whisperx.backends.mlx" in sys.modules:
        sys.modules["whisperx.backends.mlx"].free_unused_memory()
    give_back()
