"""Which recordings a command is asked for: files, folders, patterns and stdin; and what their results are called."""

import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from whisperx.errors import AudioError

STDIN = "-"

# What is taken from a folder. A file that is named itself may be called anything.
# fmt: off
_SUFFIXES = {
    ".3gp", ".aac", ".ac3", ".aif", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".caf", ".eac3", ".flac", ".flv",
    ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg", ".mpga", ".mts", ".oga",
    ".ogg", ".ogv", ".opus", ".snd", ".spx", ".ts", ".tta", ".w64", ".wav", ".weba", ".webm", ".wma", ".wmv", ".wv",
}
# fmt: on
_LONGEST_STEM = 240  # bytes: file systems take 255, the extension and its point included


def find_recordings(argument: str) -> list[str]:
    """The paths that an argument of the command stands for: a file itself, the recordings in a folder (not in folders
    below it), what a pattern such as `talks/**/*.mp3` fits, or "-" for stdin.

    Raises AudioError for a folder without recordings and for a pattern that fits nothing.
    """
    path = Path(argument)
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):  # a name that no file can have: whoever opens it says so
        return [argument]
    if argument == STDIN or (exists and not is_folder):
        return [argument]
    if is_folder:
        found = sorted(str(file) for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
        if not found:
            raise AudioError(f"the folder {argument!r} holds no recordings; folders below it are not looked into.")
        return found
    if not glob.has_magic(argument):
        return [argument]
    found = sorted(file for file in glob.glob(argument, recursive=True) if Path(file).is_file())  # noqa: PTH207
    if not found:
        raise AudioError(f"no file fits the pattern {argument!r}.")
    return found


def output_names(paths: Sequence[str]) -> list[str]:
    """For each recording the path that its files are named after: its own, or another if that is taken or too long.

    Names that differ only in case count as equal, since they are on many file systems.
    """
    own = {_shortened(stem_of(path)).casefold() for path in paths}
    taken: set[str] = set()
    names = []
    for path in paths:
        first = stem = _shortened(stem_of(path))
        n = 1
        while stem.casefold() in taken or (n > 1 and stem.casefold() in own):
            n += 1
            stem = f"{first}-{n}"
        taken.add(stem.casefold())
        own_name = "stdin" if path == STDIN else path
        names.append(own_name if stem == stem_of(path) else str(Path(own_name).with_name(stem + Path(path).suffix)))
    return names


def stem_of(path: str) -> str:
    """What the files of a recording are called when nothing speaks against it."""
    return "stdin" if path == STDIN else Path(path).stem


def _shortened(stem: str) -> str:
    encoded = os.fsencode(stem)
    return stem if len(encoded) <= _LONGEST_STEM else encoded[:_LONGEST_STEM].decode("utf-8", "ignore")


def shown(path: str) -> str:
    """A path as people are shown it, on one line."""
    return path if path.isprintable() else repr(path)


@contextmanager
def readable(path: str) -> Iterator[str]:
    """A file to read the recording `path` from: itself, or what stdin holds, which only a file lets decoders seek in.

    Raises AudioError if nothing comes from stdin.
    """
    if path != STDIN:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="whisperx-") as folder:
        file = Path(folder, "stdin")
        with file.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        if not file.stat().st_size:
            raise AudioError("stdin is empty.")
        yield str(file)
