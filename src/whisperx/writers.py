"""From a result to files: txt, vtt, srt, tsv, json and aud, with the bytes that WhisperX 3.8 writes; ass, ttml, rttm.

Each file is written under a temporary name and then renamed: what was there before stays whole until the new one is.
Three things differ from WhisperX, since it loses text or breaks the file there: a segment without words between
segments with words keeps its place in the subtitles, an arrow in a word is written `->`, and JSON holds plain numbers,
never NaN. The option `compat` writes these, too, as WhisperX does.
"""

import json
import logging
import math
import numbers
import os
import secrets
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TextIO

from whisperx.errors import OptionError
from whisperx.schema import Turn
from whisperx.subtitles.cues import (
    Cue,
    Entry,
    Result,
    SubtitleOptions,
    format_timestamp,
    speaker_prefix,
    whisperx_cues,
)
from whisperx.subtitles.readable import STYLES, readable_cues

logger = logging.getLogger(__name__)

SUBTITLE_STYLES = ("whisperx", *STYLES)
_END_OF_ASS = 36000.0  # seconds
_ONE_BREATH = 0.5  # seconds: words of one speaker that are closer are one turn


class SupportsWrite(Protocol):
    def write(self, text: str, /) -> object: ...


class Writer(Protocol):
    """Writes a result next to the name of its recording, `talk.mp3` -> `talk.srt`, and says which files those are."""

    def __call__(
        self, result: Result, audio_path: str | os.PathLike[str], options: SubtitleOptions | None = None
    ) -> list[Path]: ...


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file to write that becomes `path` when the block ends well and leaves no trace when it does not.

    A link is followed, and what is no regular file (`/dev/stdout`, a named pipe) is written directly.
    Raises OSError with the name `path`.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8", newline="\n") as file:
                yield file
            return
        target = path.resolve()
        temporary = target.with_name(f".whisperx-{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("x", encoding="utf-8", newline="\n") as file:
                yield file
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


class ResultWriter(ABC):
    """Writes results in one format. A subclass says the extension and the content."""

    extension: ClassVar[str]

    def __init__(self, output_dir: str | os.PathLike[str] | None = None) -> None:
        """output_dir : where the files go; not needed for `write_result` alone."""
        self.output_dir = output_dir

    def __call__(
        self, result: Result, audio_path: str | os.PathLike[str], options: SubtitleOptions | None = None
    ) -> list[Path]:
        if self.output_dir is None:
            raise ValueError(f"{type(self).__name__} was made without a folder to write into: only write_result works.")
        path = Path(self.output_dir, f"{Path(audio_path).stem}.{self.extension}")
        with replacing(path) as file:
            self.write_named(result, file, options, name=path.stem)
        return [path]

    def write_named(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None, *, name: str) -> None:
        """Write `result` as that of the recording `name`, for the formats that tell it."""
        self.write_result(result, file, options)

    @abstractmethod
    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        """Write `result` to anything that has `write`."""


class WriteTXT(ResultWriter):
    extension = "txt"

    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        for segment in result["segments"]:
            file.write(f"{speaker_prefix(segment)}{segment['text'].strip()}\n")


class WriteTSV(ResultWriter):
    """Times in whole milliseconds, so that they read the same in every locale."""

    extension = "tsv"

    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        file.write("start\tend\ttext\n")
        for segment in result["segments"]:
            start, end = (round(1000 * float(segment[key])) for key in ("start", "end"))
            file.write(f"{start}\t{end}\t{_without_tabs(segment)}\n")


class WriteAudacity(ResultWriter):
    """A label track of Audacity: File > Import > Labels."""

    extension = "aud"

    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        for segment in result["segments"]:
            speaker = segment.get("speaker")
            label = "" if speaker is None else f"[[{speaker}]]"
            file.write(f"{segment['start']}\t{segment['end']}\t{label}{_without_tabs(segment)}\n")


class WriteJSON(ResultWriter):
    """The whole result on one line."""

    extension = "json"

    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        compat = bool((options or {}).get("compat"))
        file.write(json.dumps(_plain(result, keep_nan=compat), ensure_ascii=False, allow_nan=compat))


class SubtitlesWriter(ResultWriter):
    always_include_hours: ClassVar[bool]
    decimal_marker: ClassVar[str]

    def iterate_result(self, result: Result, options: SubtitleOptions | None = None) -> Iterator[tuple[str, str, str]]:
        """Start, end and text of each cue."""
        for cue in find_cues(result, options):
            yield self.format_timestamp(cue.start), self.format_timestamp(cue.end), cue.text

    def format_timestamp(self, seconds: float) -> str:
        return format_timestamp(seconds, self.always_include_hours, self.decimal_marker)


class WriteSRT(SubtitlesWriter):
    extension = "srt"
    always_include_hours = True
    decimal_marker = ","

    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        for i, (start, end, text) in enumerate(self.iterate_result(result, options), start=1):
            file.write(f"{i}\n{start} --> {end}\n{text}\n\n")


class WriteVTT(SubtitlesWriter):
    extension = "vtt"
    always_include_hours = False
    decimal_marker = "."

    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        file.write("WEBVTT\n\n")
        for start, end, text in self.iterate_result(result, options):
            file.write(f"{start} --> {end}\n{text}\n\n")


class _StyledWriter(SubtitlesWriter):
    """A format with styles, through pysubs2. An underlined word is underlined, and the speaker has a field, too."""

    always_include_hours = True
    decimal_marker = "."

    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        from pysubs2 import SSAEvent, SSAFile

        events = [
            SSAEvent(
                start=round(1000 * float(cue.start)),
                end=round(1000 * float(cue.end)),
                text=_styled(cue.text),
                name=" ".join((cue.speaker or "").replace(",", " ").split()),
            )
            for cue in find_cues(result, options)
        ]
        document = SSAFile()
        document.events = events
        file.write(document.to_string(self.extension))


class WriteASS(_StyledWriter):
    """Advanced SubStation Alpha; its times are hundredths of a second and end before 10 hours."""

    extension = "ass"

    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        if any(float(segment["end"]) >= _END_OF_ASS for segment in result["segments"]):
            logger.warning("ass: its times end at 9:59:59.99; what is said later is shown there")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # pysubs2 says the same for each time
            super().write_result(result, file, options)


class WriteTTML(_StyledWriter):
    """Timed Text Markup Language, as streaming services take it."""

    extension = "ttml"


class WriteRTTM(ResultWriter):
    """Who speaks when, one line for each turn: the format that diarization is scored in (NIST, Rich Transcription)."""

    extension = "rttm"

    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        self.write_named(result, file, options, name="audio")

    def write_named(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None, *, name: str) -> None:
        file.write(rttm(turns_of(result), name))


WRITERS: dict[str, Callable[[str | os.PathLike[str]], ResultWriter]] = {
    "txt": WriteTXT,
    "vtt": WriteVTT,
    "srt": WriteSRT,
    "tsv": WriteTSV,
    "json": WriteJSON,
    "aud": WriteAudacity,
    "ass": WriteASS,
    "ttml": WriteTTML,
    "rttm": WriteRTTM,
}
ALL_FORMATS = ("txt", "vtt", "srt", "tsv", "json")  # what "all" means, as in WhisperX: the others on request only


def get_writer(output_format: str, output_dir: str | os.PathLike[str]) -> Writer:
    """The writer of a format of WRITERS, or of ALL_FORMATS for "all", into the folder `output_dir`.

    Raises KeyError for another format.
    """
    if output_format != "all":
        return WRITERS[output_format](output_dir)
    writers = [WRITERS[name](output_dir) for name in ALL_FORMATS]

    def write_all(
        result: Result, audio_path: str | os.PathLike[str], options: SubtitleOptions | None = None
    ) -> list[Path]:
        return [path for writer in writers for path in writer(result, audio_path, options)]

    return write_all


def find_cues(result: Result, options: SubtitleOptions | None = None) -> Iterator[Cue]:
    """The cues of a result in the style that the options ask for. Raises OptionError as `check_subtitle_options`."""
    options = options or {}
    check_subtitle_options(options)
    style = options.get("subtitle_style") or "whisperx"
    return whisperx_cues(result, options) if style == "whisperx" else iter(readable_cues(result, style))


def check_subtitle_options(options: SubtitleOptions) -> None:
    """Raises OptionError for an unknown style, and for options that a readable style decides by itself."""
    style = options.get("subtitle_style") or "whisperx"
    if style not in SUBTITLE_STYLES:
        raise OptionError(f"subtitle_style is {' or '.join(SUBTITLE_STYLES)}, not {style!r}.")
    given = [name for name in ("max_line_width", "max_line_count", "highlight_words") if options.get(name)]
    if style != "whisperx" and given:
        raise OptionError(f"subtitle_style {style} decides by itself about {' and '.join(given)}: leave that out.")


def turns_of(result: Result) -> list[Turn]:
    """Who speaks when, after the words that have a speaker and a time, else after the segments; neighbours joined."""
    turns: list[Turn] = []
    for segment in result["segments"]:
        timed = [word for word in segment.get("words") or () if {"start", "end", "speaker"} <= word.keys()]
        for entry in timed or ([segment] if "speaker" in segment else []):
            start, end, speaker = float(entry["start"]), float(entry["end"]), entry["speaker"]
            if turns and turns[-1].speaker == speaker and start - turns[-1].end < _ONE_BREATH:
                turns[-1] = replace(turns[-1], end=max(turns[-1].end, end))
            else:
                turns.append(Turn(start, end, speaker))
    return turns


def rttm(turns: Iterable[Turn], name: str) -> str:
    """The lines of an RTTM file for the recording `name`. Its fields have no spaces, so that names get underscores."""
    return "".join(
        f"SPEAKER {_one_field(name)} 1 {turn.start:.3f} {max(0.0, turn.end - turn.start):.3f} "
        f"<NA> <NA> {_one_field(turn.speaker)} <NA> <NA>\n"
        for turn in turns
    )


def _one_field(text: str) -> str:
    return "_".join(text.split()) or "_"


def _styled(text: str) -> str:
    """Text of a cue for SubStation and its relatives, where braces and some backslashes are orders to the player."""
    printable = "".join(character for character in text if character >= " " or character == "\n")  # XML has no others
    plain = printable.replace("{", "(").replace("}", ")").replace("\\", "\\\u2060")
    return plain.replace("<u>", r"{\u1}").replace("</u>", r"{\u0}").replace("\n", r"\N")


def _without_tabs(segment: Entry) -> str:
    text: str = segment["text"]
    return text.strip().replace("\t", " ")


def _plain(value: Any, *, keep_nan: bool) -> Any:
    """`value` as json knows it: NumPy's numbers become Python's, and numbers that are none become null."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item, keep_nan=keep_nan) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, keep_nan=keep_nan) for item in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if keep_nan or math.isfinite(value) else None
    return value
