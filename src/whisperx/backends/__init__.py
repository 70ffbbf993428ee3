"""Engines that run a model, and those of them that this process has loaded."""

import gc
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from whisperx.errors import BackendError, OptionError
from whisperx.schema import Backend

if TYPE_CHECKING:
    from whisperx.backends.mlx import MlxBackend

BACKENDS = ("auto", "mlx")
MAX_LOADED = 2  # kept after use: the newest, and the one before for whoever goes back and forth

_MODEL_FILES = (".json", ".safetensors", ".npz", ".bin", ".pt")

_loaded: dict[tuple[object, ...], "MlxBackend"] = {}  # in the order in which they were asked for last
_lock = threading.Lock()


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

    name : "auto" or "mlx"
    model : folder or weights file
    device, device_index, compute_type : as `whisperx.load_model` takes them
    threads : of the BLAS on a CPU, for all models from now on; 0: as many as it chooses

    The `MAX_LOADED` models asked for last are kept until `release_models`. Raises CheckpointError, OptionError, and
    BackendError for an engine that is not installed.
    """
    if name not in BACKENDS:
        raise OptionError(f"Invalid backend: {name}; expected one of {', '.join(BACKENDS)}.")
    try:
        from whisperx.backends.mlx import MlxBackend
    except ImportError as error:
        raise BackendError(
            "MLX is not installed for this machine. On Linux: pip install 'whisperx-mlx[cpu]', or [cuda13], [cuda12] "
            f"for an NVIDIA GPU. ({error})"
        ) from error
    key = (*_fingerprint(model), device, device_index, compute_type)
    with _lock:  # held while loading: whoever asks for the same model meanwhile gets this one
        backend = _loaded.pop(key, None)
        if backend is None:
            while len(_loaded) >= MAX_LOADED:  # before there is one more in memory
                del _loaded[next(iter(_loaded))]
            backend = MlxBackend(model, device=device, device_index=device_index, compute_type=compute_type)
        _loaded[key] = backend
    backend.use_threads(threads)
    return backend


def release_models() -> None:
    """Forget all loaded models and return the memory of those that nothing else holds."""
    with _lock:
        _loaded.clear()
    gc.collect()
    if "whisperx.backends.mlx" in sys.modules:
        sys.modules["whisperx.backends.mlx"].free_unused_memory()


def _fingerprint(model: Path) -> tuple[object, ...]:
    """What changes when the files of a model do: their names, sizes and times."""
    folder = model if model.is_dir() else model.parent
    files = sorted(path for path in folder.iterdir() if path.suffix in _MODEL_FILES)
    stats = [(path.name, path.stat()) for path in files]
    return (model.resolve(), *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))
