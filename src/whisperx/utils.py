"""WhisperX's import path for what lives in `tokenizer`, `subtitles` and `writers`.

And its small helpers, for programs that use them; nothing in this package does.
"""

import sys
from typing import Any, TypeVar

from whisperx.subtitles.cues import format_timestamp
from whisperx.tokenizer import LANGUAGES, LANGUAGES_WITHOUT_SPACES, PUNKT_LANGUAGES, TO_LANGUAGE_CODE
from whisperx.writers import (
    ResultWriter,
    SubtitlesWriter,
    WriteAudacity,
    WriteJSON,
    WriteSRT,
    WriteTSV,
    WriteTXT,
    WriteVTT,
    get_writer,
)

__all__ = [
    "LANGUAGES",
    "LANGUAGES_WITHOUT_SPACES",
    "PUNKT_LANGUAGES",
    "TO_LANGUAGE_CODE",
    "ResultWriter",
    "SubtitlesWriter",
    "WriteAudacity",
    "WriteJSON",
    "WriteSRT",
    "WriteTSV",
    "WriteTXT",
    "WriteVTT",
    "compression_ratio",
    "exact_div",
    "format_timestamp",
    "get_writer",
    "interpolate_nans",
    "make_safe",
    "optional_float",
    "optional_int",
    "str2bool",
]

_Series = TypeVar("_Series", bound=Any)  # pandas.Series, which this package does not need


def str2bool(string: str) -> bool:
    """True for "True", False for "False"; raises ValueError for anything else, whatever its case."""
    values = {"True": True, "False": False}
    if string not in values:
        raise ValueError(f"Expected one of {set(values)}, got {string}")
    return values[string]


def optional_int(string: str) -> int | None:
    return None if string == "None" else int(string)


def optional_float(string: str) -> float | None:
    return None if string == "None" else float(string)


def exact_div(x: int, y: int) -> int:
    """x / y, which must be whole, else AssertionError."""
    if x % y:
        raise AssertionError(f"{x} is no multiple of {y}")
    return x // y


def make_safe(string: str) -> str:
    """`string` with a question mark for each character that the system's encoding has not."""
    encoding = sys.getdefaultencoding()
    return string.encode(encoding, errors="replace").decode(encoding)


def compression_ratio(text: str) -> float:
    """How many times smaller zlib makes the text."""
    from whisperx.models.whisper import results  # which loads the BLAS

    return results.compression_ratio(text)


def interpolate_nans(x: _Series, method: str = "nearest") -> _Series:
    """A pandas Series with its gaps filled: between two values by `method`, at the ends by the nearest value.

    The method "ignore" leaves them.
    """
    if method == "ignore":
        return x
    filled = x.interpolate(method=method) if x.notnull().sum() > 1 else x
    result: _Series = filled.ffill().bfill()
    return result
