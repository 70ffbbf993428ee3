"""From a model's name, path or repository id to a local folder. The only module that downloads."""

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whisperx.checkpoints.weights import WEIGHT_FILES
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

# What WhisperX downloads by these names, the same weights converted for CTranslate2: used where one is here already.
CONVERSIONS = {
    **{name: f"Systran/faster-whisper-{name}" for name in MODELS if not name.startswith("distil-")},
    **{name: f"Systran/faster-distil-whisper-{name.removeprefix('distil-')}" for name in MODELS if "distil-" in name},
    "large": "Systran/faster-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
}


@dataclass(frozen=True)
class Files:
    """Which files of a repository make a model. Others are never downloaded."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()  # one of these too: the first that the repository has, with its shards


WHISPER_FILES = Files(
    ("config.json",),
    ("generation_config.json", "tokenizer.json", "preprocessor_config.json", "vocabulary.json", "vocabulary.txt"),
    WEIGHT_FILES,
)


def resolve(
    model: str | os.PathLike[str],
    *,
    download_root: str | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Path:
    """The local folder or weights file of a Whisper model, downloaded first where it must be.

    model : a folder or file, a name of `MODELS`, or `owner/name` on the Hugging Face Hub, tried in this order;
    the other arguments are those of `fetch`. A name whose model is not here stands for its conversion for CTranslate2
    where that one is.

    Raises ModelNotFoundError when there is no such model, or when it is not here and cannot be downloaded.
    """
    path = local_path(model)
    if str(model) and path.exists():
        return path
    if not isinstance(model, str) or _looks_like_a_path(model):
        raise ModelNotFoundError(f"no such model folder or file: {model}")
    repository = _repository(model)
    if model in CONVERSIONS and cached(repository, WHISPER_FILES, download_root) is None:
        converted = cached(CONVERSIONS[model], WHISPER_FILES, download_root)
        if converted is not None:
            logger.info("model %r: using %s, which is on this machine", model, CONVERSIONS[model])
            return converted
    return fetch(
        repository,
        WHISPER_FILES,
        called=model,
        download_root=download_root,
        local_files_only=local_files_only,
        token=token,
    )


def fetch(
    repository: str,
    files: Files,
    *,
    called: str | None = None,
    download_root: str | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Path:
    """The local folder with `files` of a repository of the Hub, of any kind of model; downloaded unless it is here.

    repository : owner/name
    called : what people call the model, where that is another name
    download_root : where downloads are kept; the Hub's own cache when None
    local_files_only : never ask the network. A model that was downloaded completely is used without asking anyway.
    token : for private and gated repositories; default HF_TOKEN, HUGGINGFACE_TOKEN, or the login of `hf auth login`

    Raises ModelNotFoundError when there is no such repository, or when it is not here and cannot be downloaded.
    """
    called = called or repository
    folder = cached(repository, files, download_root)
    if folder is None and local_files_only:
        raise ModelNotFoundError(_advice(f"model {called!r} is not on this machine", repository))
    return folder or _download(called, repository, files, download_root, token)


def local_path(name: str | os.PathLike[str]) -> Path:
    """A path with `~` as the home folder, or as it is where nobody has such a home."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises RuntimeError for ~stranger


def first_token(*tokens: str | bool | None) -> str | None:
    """The token among what `token`, `use_auth_token` and `hf_token` were given; True, as libraries took it once, is
    the token of the environment or the login."""
    return next((token for token in tokens if isinstance(token, str) and token), None)


def _looks_like_a_path(model: str) -> bool:
    return model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model or model.endswith("/")


def _repository(model: str) -> str:
    if model in MODELS:
        return MODELS[model]
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return model
    raise ModelNotFoundError(
        f"Invalid model size '{model}', expected one of: {', '.join(MODELS)}; or a folder, or owner/name on the Hub"
    )


def cached(repository: str, files: Files, download_root: str | None = None) -> Path | None:
    """The folder of a model that was downloaded completely, found without a request; None where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repository, cache_dir=download_root, local_files_only=True, allow_patterns=list(files.required)
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ModelNotFoundError(f"{repository!r} is no folder here and cannot be a repository: {error}") from error
    return Path(folder) if _is_complete(Path(folder), files) else None


def _is_complete(folder: Path, files: Files) -> bool:
    """Whether a snapshot has its settings and all its weights: one that was interrupted has only some files."""
    if not all((folder / name).exists() for name in files.required):
        return False
    if not files.weights:
        return True
    weights = next((folder / name for name in files.weights if (folder / name).exists()), None)
    if weights is None:
        return False
    if weights.suffix != ".json":
        return True
    try:
        shards = set(json.loads(weights.read_bytes())["weight_map"].values())
        return all((folder / shard).exists() for shard in shards)
    except (ValueError, LookupError, TypeError, AttributeError):
        return False  # an index that makes no sense is downloaded again


def _download(called: str, repository: str, files: Files, download_root: str | None, token: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    token = token or os.environ.get("HF_TOKEN") or os.environ.get("HUGGINGFACE_TOKEN")
    try:
        # Not list_repo_files: without a network it retries for 23 s.
        siblings = HfApi(token=token).model_info(repository).siblings or []
        wanted = _choose(repository, files, [file.rfilename for file in siblings])
        logger.info("downloading %s", repository)
        folder = snapshot_download(repository, cache_dir=download_root, token=token, allow_patterns=wanted)
    except ModelNotFoundError:
        raise
    except Exception as error:  # of the Hub's client and of the HTTP library under it, which differs by version
        raise ModelNotFoundError(_explain(error, called, repository)) from error
    return Path(folder)


def _choose(repository: str, files: Files, there: Sequence[str]) -> list[str]:
    """Names and patterns of what to download: of the weights, the one set that is read."""
    weights = next((name for name in files.weights if name in there), None)
    missing = [name for name in files.required if name not in there]
    if missing or (files.weights and weights is None):
        expected = " or ".join(files.weights) if not missing else " and ".join(missing)
        found = ", ".join(sorted(there)[:8]) or "no files"
        advice = f"; choose one of {', '.join(MODELS)}" if files is WHISPER_FILES else ""
        raise ModelNotFoundError(
            f"{repository} has no weights that are read here; expected {expected}, found {found}{advice}"
        )
    chosen = [*files.required, *files.optional, *([weights] if weights else [])]
    if weights is not None and weights.endswith(".index.json"):
        stem, suffix = weights.removesuffix(".index.json").rsplit(".", 1)
        chosen.append(f"{stem}-*.{suffix}")
    return chosen


def _explain(error: Exception, called: str, repository: str) -> str:
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
            "then run `hf auth login` or set HF_TOKEN or HUGGINGFACE_TOKEN"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"no folder {called!r} here and no model {repository} on the Hub; check the name, "
            "or for a private one run `hf auth login` or set HF_TOKEN or HUGGINGFACE_TOKEN"
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if status in (401, 403):
        return (
            f"the Hub refuses access to {repository} (HTTP {status}): see https://huggingface.co/{repository}, "
            "then run `hf auth login` or set HF_TOKEN or HUGGINGFACE_TOKEN"
        )
    if isinstance(error, OfflineModeIsEnabled):
        reason = "HF_HUB_OFFLINE is set"
    elif isinstance(error, LocalEntryNotFoundError):
        reason = "the Hub cannot be reached"
    else:
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(". ")
    return _advice(f"model {called!r} is not on this machine and was not downloaded ({reason})", repository)


def _advice(problem: str, repository: str) -> str:
    folder = repository.rpartition("/")[2]
    return (
        f"{problem}; connect to the internet once, or run `hf download {repository} --local-dir {folder}` "
        f"elsewhere and give that folder as the model"
    )
