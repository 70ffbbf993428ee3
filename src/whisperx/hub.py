"""From a model's name, path or repository id to a local folder. The only module that downloads."""

import json
import logging
import os
import re
from pathlib import Path

from whisperx.errors import ModelNotFoundError

logger = logging.getLogger(__name__)

# WhisperX's names -> repositories with weights that this package reads (safetensors in Hugging Face's layout).
MODELS = {
    "tiny.en": "openai/whisper-tiny.en",
    "tiny": "openai/whisper-tiny",
    "base.en": "openai/whisper-base.en",
    "base": "openai/whisper-base",
    "small.en": "openai/whisper-small.en",
    "small": "openai/whisper-small",
    "medium.en": "openai/whisper-medium.en",
    "medium": "openai/whisper-medium",
    "large-v1": "openai/whisper-large",
    "large-v2": "openai/whisper-large-v2",
    "large-v3": "openai/whisper-large-v3",
    "large": "openai/whisper-large-v3",
    "distil-large-v2": "distil-whisper/distil-large-v2",
    "distil-medium.en": "distil-whisper/distil-medium.en",
    "distil-small.en": "distil-whisper/distil-small.en",
    "distil-large-v3": "distil-whisper/distil-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5",
    "large-v3-turbo": "openai/whisper-large-v3-turbo",
    "turbo": "openai/whisper-large-v3-turbo",
}

# Conversions for CTranslate2 that programs written for WhisperX name -> the model they were made from.
_CTRANSLATE2_ORIGINS = {
    **{
        "Systran/faster-"
        + (f"distil-whisper-{name[7:]}" if name.startswith("distil-") else f"whisper-{name}"): repository
        for name, repository in MODELS.items()
    },
    "mobiuslabsgmbh/faster-whisper-large-v3-turbo": "openai/whisper-large-v3-turbo",
    "dropbox-dash/faster-whisper-large-v3-turbo": "openai/whisper-large-v3-turbo",
    "deepdml/faster-whisper-large-v3-turbo-ct2": "openai/whisper-large-v3-turbo",
    "distil-whisper/distil-large-v3-ct2": "distil-whisper/distil-large-v3",
    "distil-whisper/distil-large-v3.5-ct2": "distil-whisper/distil-large-v3.5",
    "nyrahealth/faster_CrisperWhisper": "nyrahealth/CrisperWhisper",
}

SETTINGS_FILES = ("config.json", "generation_config.json", "tokenizer.json")
# Downloaded is the first that a repository has, in the order in which `checkpoints` looks for them.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "weights.safetensors",
    "weights.npz",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def resolve(
    model: str | os.PathLike[str],
    *,
    download_root: str | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Path:
    """The local folder or weights file of a model, downloaded first where it must be.

    model : a folder or file, a name of `MODELS`, or `owner/name` on the Hugging Face Hub, tried in this order
    download_root : where downloads are kept; the Hub's own cache when None
    local_files_only : never ask the network. A model that was downloaded completely is used without asking anyway.
    token : for private and gated repositories; default HF_TOKEN, HUGGINGFACE_TOKEN, or the login of `hf auth login`

    Raises ModelNotFoundError when there is no such model, or when it is not here and cannot be downloaded.
    """
    path = Path(model).expanduser()
    if str(model) and path.exists():
        return path
    if not isinstance(model, str) or _looks_like_a_path(model):
        raise ModelNotFoundError(f"no such model folder or file: {model}")
    repository = _repository(model)
    folder = _cached(repository, download_root)
    if folder is None and local_files_only:
        raise ModelNotFoundError(_advice(f"model {model!r} is not on this machine", repository))
    return folder or _download(model, repository, download_root, token)


def _looks_like_a_path(model: str) -> bool:
    return model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model or model.endswith("/")


def _repository(model: str) -> str:
    if model in MODELS:
        return MODELS[model]
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        origin = _CTRANSLATE2_ORIGINS.get(model, model)
        if origin != model:
            logger.info("%s holds weights for CTranslate2; using the original, %s", model, origin)
        return origin
    raise ModelNotFoundError(
        f"Invalid model size '{model}', expected one of: {', '.join(MODELS)}; or a folder, or owner/name on the Hub"
    )


def _cached(repository: str, download_root: str | None) -> Path | None:
    """The folder of a model that was downloaded completely, found without a request."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repository, cache_dir=download_root, local_files_only=True, allow_patterns=list(SETTINGS_FILES)
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ModelNotFoundError(f"{repository!r} is no folder here and cannot be a repository: {error}") from error
    return Path(folder) if _is_complete(Path(folder)) else None


def _is_complete(folder: Path) -> bool:
    """Whether a snapshot has its settings and all its weights: one that was interrupted has only some files."""
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).exists()), None)
    if weights is None or not (folder / "config.json").exists():
        return False
    if weights.suffix != ".json":
        return True
    try:
        shards = set(json.loads(weights.read_bytes())["weight_map"].values())
        return all((folder / shard).exists() for shard in shards)
    except (ValueError, LookupError, TypeError, AttributeError):
        return False  # an index that makes no sense is downloaded again


def _download(model: str, repository: str, download_root: str | None, token: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    token = token or os.environ.get("HF_TOKEN") or os.environ.get("HUGGINGFACE_TOKEN")
    try:
        # Not list_repo_files: without a network it retries for 23 s.
        siblings = HfApi(token=token).model_info(repository).siblings or []
        weights = _choose_weights(repository, [file.rfilename for file in siblings])
        logger.info("downloading %s", repository)
        folder = snapshot_download(
            repository, cache_dir=download_root, token=token, allow_patterns=[*SETTINGS_FILES, *weights]
        )
    except ModelNotFoundError:
        raise
    except Exception as error:  # of the Hub's client and of the HTTP library under it, which differs by version
        raise ModelNotFoundError(_explain(error, model, repository)) from error
    return Path(folder)


def _choose_weights(repository: str, files: list[str]) -> list[str]:
    """Names and patterns of the one set of weights to download."""
    name = next((name for name in WEIGHT_FILES if name in files), None)
    if name is None:
        found = "a CTranslate2 model" if "model.bin" in files else ", ".join(sorted(files)[:8]) or "no files"
        raise ModelNotFoundError(
            f"{repository} has no weights that the mlx backend reads; expected {' or '.join(WEIGHT_FILES)}, "
            f"found {found}; choose one of {', '.join(MODELS)}"
        )
    if not name.endswith(".index.json"):
        return [name]
    stem, suffix = name.removesuffix(".index.json").rsplit(".", 1)
    return [name, f"{stem}-*.{suffix}"]


def _explain(error: Exception, model: str, repository: str) -> str:
    """One line: what went wrong, and which command or folder would help."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return (
            f"{repository} is gated: accept its terms at https://huggingface.co/{repository}, "
            "then run `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"no folder {model!r} here and no model {repository} on the Hub; check the name, "
            "or for a private one run `hf auth login` or set HF_TOKEN"
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if status in (401, 403):
        return (
            f"the Hub refuses access to {repository} (HTTP {status}): see https://huggingface.co/{repository}, "
            "then run `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, OfflineModeIsEnabled):
        reason = "HF_HUB_OFFLINE is set"
    elif isinstance(error, LocalEntryNotFoundError):
        reason = "the Hub cannot be reached"
    else:
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(". ")
    return _advice(f"model {model!r} is not on this machine and was not downloaded ({reason})", repository)


def _advice(problem: str, repository: str) -> str:
    folder = repository.rpartition("/")[2]
    return (
        f"{problem}; connect to the internet once, or run `hf download {repository} --local-dir {folder}` "
        f"elsewhere and give that folder as the model"
    )
