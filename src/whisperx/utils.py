"""WhisperX's import path for what lives in `tokenizer` and `writers`."""

from whisperx.tokenizer import LANGUAGES, TO_LANGUAGE_CODE
from whisperx.writers import (
    LANGUAGES_WITHOUT_SPACES,
    ResultWriter,
    SubtitlesWriter,
    WriteAudacity,
    WriteJSON,
    WriteSRT,
    WriteTSV,
    WriteTXT,
    WriteVTT,
    format_timestamp,
    get_writer,
)

__all__ = [
    "LANGUAGES",
    "LANGUAGES_WITHOUT_SPACES",
    "TO_LANGUAGE_CODE",
    "ResultWriter",
    "SubtitlesWriter",
    "WriteAudacity",
    "WriteJSON",
    "WriteSRT",
    "WriteTSV",
    "WriteTXT",
    "WriteVTT",
    "format_timestamp",
    "get_writer",
]
