"""WhisperX on MLX: recordings to text, the same bytes out whatever the batch size.

Names and submodules (`whisperx.audio`, `whisperx.utils`) are loaded on first use (PEP 562), so that `import whisperx`
costs nothing and needs no engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whisperx.alignment import align, load_align_model
    from whisperx.asr import load_model
    from whisperx.audio import load_audio
    from whisperx.backends import release_models
    from whisperx.diarize import DiarizationPipeline, assign_word_speakers
    from whisperx.log_utils import get_logger, setup_logging

    __version__: str

__all__ = [
    "DiarizationPipeline",
    "align",
    "assign_word_speakers",
    "get_logger",
    "load_align_model",
    "load_audio",
    "load_model",
    "release_models",
    "setup_logging",
]

_HOMES = {
    "load_model": "whisperx.asr",
    "load_audio": "whisperx.audio",
    "load_align_model": "whisperx.alignment",
    "align": "whisperx.alignment",
    "DiarizationPipeline": "whisperx.diarize",
    "assign_word_speakers": "whisperx.diarize",
    "release_models": "whisperx.backends",
    "setup_logging": "whisperx.log_utils",
    "get_logger": "whisperx.log_utils",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value: Any = getattr(import_module(_HOMES[name]), name)
    elif name == "__version__":
        value = _version()
    else:
        value = _submodule(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from pkgutil import iter_modules

    submodules = {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}
    return sorted({*globals(), *__all__, "__version__", *submodules})


def _submodule(name: str) -> Any:
    full_name = f"{__name__}.{name}"
    try:
        if not name.startswith("_"):
            return import_module(full_name)
    except ModuleNotFoundError as error:
        if error.name != full_name:
            raise  # the submodule is there, something that it needs is not
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("whisperx-mlx")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"
