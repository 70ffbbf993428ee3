"""The `whisperx-models` command: which models are on this machine, and fetching, checking and removing them."""

import argparse
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisperx.alignment.loading import (
    ALIGN_FILES,
    DEFAULT_ALIGN_MODELS_HF,
    DEFAULT_ALIGN_MODELS_TORCH,
    TORCHAUDIO_MODELS,
)
from whisperx.community import PIPELINES
from whisperx.errors import ModelNotFoundError, WhisperXError
from whisperx.hub import CONVERSIONS, MODELS, WHISPER_FILES, Files, cached, fetch

_MODEL_TYPES = ("whisper", "wav2vec2", "hubert")  # in config.json
_ALIGN = "align:"  # in front of a language
_ANY_FILES = replace(  # of a repository that may hold a Whisper or an alignment model
    WHISPER_FILES, optional=(*WHISPER_FILES.optional, *ALIGN_FILES.required, *ALIGN_FILES.optional)
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 all well, 1 something failed, 2 wrong usage."""
    args = _build_parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except WhisperXError as error:
        print(f"whisperx-models: error: {error}", file=sys.stderr)
        return 1
    return status


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="whisperx-models",
        description="Models on this machine. NAME is what --model, --align_model or --diarize_model take, or align:de "
        "for the alignment model of a language.",
    )
    parser.add_argument("--model_dir", metavar="DIR", help="folder for downloads; default: the cache of the Hub")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, text: str, *, names: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if names:
            command.add_argument("names", nargs="+", metavar="NAME")
        return command

    add("list", _list, "show what is here, and how large it is", names=False)
    download = add("download", _download, "fetch what is not here yet")
    download.add_argument("--hf_token", metavar="TOKEN", help="for models that are not open to everyone")
    add("path", _path, "print the folder of a model that is here")
    add("verify", _verify, "check that all files of a model are here and undamaged")
    add("remove", _remove, "delete a model")
    return parser


def repositories_of(name: str) -> dict[str, Files]:
    """The repositories that a name stands for, with the files of each that are used. Raises ModelNotFoundError."""
    if name in PIPELINES:
        return PIPELINES[name]
    if name.startswith(_ALIGN):
        language = name.removeprefix(_ALIGN)
        name = DEFAULT_ALIGN_MODELS_TORCH.get(language) or DEFAULT_ALIGN_MODELS_HF.get(language) or ""
        if not name:
            raise ModelNotFoundError(f"No default align-model for language: {language}")
    if name in TORCHAUDIO_MODELS or name in DEFAULT_ALIGN_MODELS_HF.values():
        return {_on_the_hub(name): ALIGN_FILES}
    if name in MODELS:
        return {MODELS[name]: WHISPER_FILES}
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return {name: _ANY_FILES}
    raise ModelNotFoundError(
        f"no model {name!r}; expected one of {', '.join(MODELS)}, owner/name, align:LANGUAGE, "
        f"{', '.join((*TORCHAUDIO_MODELS, *PIPELINES))}"
    )


def _list(args: argparse.Namespace) -> int:
    known = {repository: name for name, repository in MODELS.items()}
    known |= {repository: repository for repository in CONVERSIONS.values()}
    known |= {repository: name for name, files in PIPELINES.items() for repository in files}
    known |= {_on_the_hub(name): f"{_ALIGN}{code}" for code, name in _default_aligners().items()}
    found = [
        repository for repository in _scan(args.model_dir) if repository.repo_id in known or _is_of_use(repository)
    ]
    for repository in sorted(found, key=lambda repository: repository.repo_id):
        name = known.get(repository.repo_id, repository.repo_id)
        files = repositories_of(name)[repository.repo_id]
        state = "" if cached(repository.repo_id, files, args.model_dir) else "  incomplete"
        print(f"{name:<18} {repository.size_on_disk / 1e6:>8.0f} MB  {repository.repo_id}{state}")
    if not found:
        print("no models here; whisperx-models download small fetches one", file=sys.stderr)
    return 0


def _is_of_use(repository: Any) -> bool:
    """Whether a repository that has no name here holds a Whisper or an alignment model, by its config.json."""
    for revision in repository.revisions:
        try:
            config = json.loads((revision.snapshot_path / "config.json").read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(config, dict) and config.get("model_type") in _MODEL_TYPES:
            return True
    return False


def _on_the_hub(aligner: str) -> str:
    return TORCHAUDIO_MODELS[aligner].repository if aligner in TORCHAUDIO_MODELS else aligner


def _default_aligners() -> dict[str, str]:
    return {**DEFAULT_ALIGN_MODELS_HF, **DEFAULT_ALIGN_MODELS_TORCH}


def _download(args: argparse.Namespace) -> int:
    for name in args.names:
        for repository, files in repositories_of(name).items():
            print(fetch(repository, files, called=name, download_root=args.model_dir, token=args.hf_token))
    return 0


def _path(args: argparse.Namespace) -> int:
    for name in args.names:
        print(*_folders(name, args.model_dir), sep="\n")
    return 0


def _folders(name: str, model_dir: str | None) -> list[Path]:
    return [
        fetch(repository, files, called=name, download_root=model_dir, local_files_only=True)
        for repository, files in repositories_of(name).items()
    ]


def _verify(args: argparse.Namespace) -> int:
    status = 0
    for name in args.names:
        files = [file for folder in _folders(name, args.model_dir) for file in folder.rglob("*") if file.is_file()]
        damaged = [file for file in files if not _is_whole(file)]
        print(f"{name}: {'damaged: ' + ', '.join(file.name for file in damaged) if damaged else 'whole'}")
        if damaged:
            status = 1
            print(f"whisperx-models remove {name}, then download it again", file=sys.stderr)
    return status


def _is_whole(file: Path) -> bool:
    """Whether a file has the checksum that the Hub's cache calls it by: SHA-256 of large files, git's SHA-1 of others.

    A file that is not kept under its checksum cannot be checked, and passes.
    """
    expected = file.resolve().name
    if re.fullmatch("[0-9a-f]{64}", expected):
        digest = hashlib.sha256()
    elif re.fullmatch("[0-9a-f]{40}", expected):
        digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        return True
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == expected


def _remove(args: argparse.Namespace) -> int:
    wanted = {repository: name for name in args.names for repository in repositories_of(name)}
    found = [repository for repository in _scan(args.model_dir) if repository.repo_id in wanted]
    missing = set(wanted) - {repository.repo_id for repository in found}
    if missing:
        raise ModelNotFoundError(f"not on this machine: {', '.join(sorted(wanted[name] for name in missing))}")
    for repository in found:
        shutil.rmtree(repository.repo_path)
        print(f"removed {repository.repo_id}, {repository.size_on_disk / 1e6:.0f} MB")
    return 0


def _scan(model_dir: str | None) -> list[Any]:
    """The repositories of models in the cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(model_dir or HF_HUB_CACHE)
    found = scan_cache_dir(cache).repos if cache.is_dir() else ()
    return [repository for repository in found if repository.repo_type == "model"]


if __name__ == "__main__":
    sys.exit(main())
