"""Folders that are there when they are complete, and else not at all."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete_or_absent(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes `folder` when the block ends well and is deleted when it does not.

    Raises OSError where it cannot be made, and where `folder` is there by then and not empty.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.absolute().with_name(f".{folder.name}.{secrets.token_hex(8)}")
    unfinished.mkdir()
    try:
        yield unfinished
        unfinished.replace(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
