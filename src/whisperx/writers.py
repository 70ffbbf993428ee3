"""From a result to files: txt, vtt, srt, tsv, json and aud, with the bytes that WhisperX 3.8 writes.

Each file is written under a temporary name and then renamed: what was there before stays whole until the new one is.
Two things differ from WhisperX, since it loses text or breaks the file there: a segment without words between segments
with words keeps its place in the subtitles, and JSON holds plain numbers, never NaN.
"""

import json
import math
import numbers
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TextIO, TypeAlias, TypedDict

Result: TypeAlias = Mapping[str, Any]  # schema.TranscriptionResult, perhaps with words and speakers
Entry: TypeAlias = Mapping[str, Any]  # a segment of it, or a word

LANGUAGES_WITHOUT_SPACES = ("ja", "zh")  # where subtitles join words without a space, as in WhisperX
_LONG_PAUSE = 3.0  # seconds between the starts of two words that end a cue, when words flow over segments


class SubtitleOptions(TypedDict, total=False):
    """How words become srt and vtt cues. Results without words have one cue for each segment, whatever this says."""

    max_line_width: int | None  # characters in a line, spaces not counted; None: no limit
    max_line_count: int | None  # lines in a cue; with a width, words flow over the borders of segments
    highlight_words: bool  # a cue for each word, in which it is underlined


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


def format_timestamp(seconds: float, always_include_hours: bool = False, decimal_marker: str = ".") -> str:
    """`seconds` as `MM:SS.mmm`, with `HH:` in front from one hour on or when asked for; halves go to the even number.

    Raises AssertionError for a negative time, as WhisperX does.
    """
    if seconds < 0:
        raise AssertionError(f"a timestamp is not negative, but this one is {seconds}")
    minutes, milliseconds = divmod(round(float(seconds) * 1000.0), 60_000)
    hours, minutes = divmod(minutes, 60)
    whole_seconds, milliseconds = divmod(milliseconds, 1000)
    prefix = f"{hours:02d}:" if always_include_hours or hours > 0 else ""
    return f"{prefix}{minutes:02d}:{whole_seconds:02d}{decimal_marker}{milliseconds:03d}"


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
            self.write_result(result, file, options)
        return [path]

    @abstractmethod
    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        """Write `result` to anything that has `write`."""


class WriteTXT(ResultWriter):
    extension = "txt"

    def write_result(self, result: Result, file: SupportsWrite, options: SubtitleOptions | None = None) -> None:
        for segment in result["segments"]:
            file.write(f"{_speaker_prefix(segment)}{segment['text'].strip()}\n")


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
        file.write(json.dumps(_plain(result), ensure_ascii=False, allow_nan=False))


class SubtitlesWriter(ResultWriter):
    always_include_hours: ClassVar[bool]
    decimal_marker: ClassVar[str]

    def iterate_result(self, result: Result, options: SubtitleOptions | None = None) -> Iterator[tuple[str, str, str]]:
        """Start, end and text of each cue. When the first segment has words, cues are built from words."""
        segments = result["segments"]
        if not segments or "words" not in segments[0]:
            for segment in segments:
                yield self.format_timestamp(segment["start"]), self.format_timestamp(segment["end"]), _cue_text(segment)
            return
        options = options or {}
        joiner = "" if result.get("language") in LANGUAGES_WITHOUT_SPACES else " "
        for cue in _cues_of_words(segments, options.get("max_line_width"), options.get("max_line_count")):
            if options.get("highlight_words") and cue.is_timed:
                yield from self._highlighted(cue, joiner)
            else:
                yield self.format_timestamp(cue.start), self.format_timestamp(cue.end), cue.text(joiner)

    def format_timestamp(self, seconds: float) -> str:
        return format_timestamp(seconds, self.always_include_hours, self.decimal_marker)

    def _highlighted(self, cue: "_Cue", joiner: str) -> Iterator[tuple[str, str, str]]:
        """One cue for each timed word, and one without underlining for each gap between them.

        WhisperX joins with a space around an underlined word in every language.
        """
        last = self.format_timestamp(cue.start)
        for i, word in enumerate(cue.words):
            if word.start is None or word.end is None:
                continue
            start, end = self.format_timestamp(word.start), self.format_timestamp(word.end)
            if start != last:
                yield last, start, cue.text(joiner)
            yield start, end, cue.text(" ", underlined=i)
            last = end


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


WRITERS: dict[str, Callable[[str | os.PathLike[str]], ResultWriter]] = {
    "txt": WriteTXT,
    "vtt": WriteVTT,
    "srt": WriteSRT,
    "tsv": WriteTSV,
    "json": WriteJSON,
    "aud": WriteAudacity,
}
ALL_FORMATS = ("txt", "vtt", "srt", "tsv", "json")  # what "all" means: aud is written on request only, as in WhisperX


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


def _speaker_prefix(segment: Entry) -> str:
    speaker = segment.get("speaker")
    return "" if speaker is None else f"[{speaker}]: "


def _without_tabs(segment: Entry) -> str:
    text: str = segment["text"]
    return text.strip().replace("\t", " ")


def _without_arrow(text: str) -> str:
    """An arrow in a cue would read as a line of times."""
    return text.strip().replace("-->", "->")


def _cue_text(segment: Entry) -> str:
    return _speaker_prefix(segment) + _without_arrow(segment["text"])


def _plain(value: Any) -> Any:
    """`value` as json knows it: NumPy's numbers become Python's, and numbers that are none become null."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return value


@dataclass(frozen=True, slots=True)
class _Word:
    text: str  # a line break in front starts a new line of the cue
    start: float | None
    end: float | None
    segment: Entry


@dataclass(frozen=True, slots=True)
class _Cue:
    words: tuple[_Word, ...]

    @property
    def is_timed(self) -> bool:
        return any(word.start is not None for word in self.words)

    @property
    def start(self) -> float:
        starts = [word.start for word in self.words if word.start is not None]
        return min(starts) if starts else float(self.words[0].segment["start"])

    @property
    def end(self) -> float:
        ends = [word.end for word in self.words if word.end is not None]
        return max(ends) if ends else float(self.words[0].segment["end"])

    def text(self, joiner: str, underlined: int | None = None) -> str:
        texts = [_underline(word.text) if i == underlined else word.text for i, word in enumerate(self.words)]
        return _speaker_prefix(self.words[0].segment) + joiner.join(texts)


def _underline(text: str) -> str:
    word = text.lstrip()
    return f"{text[: len(text) - len(word)]}<u>{word}</u>"


class _CueInMaking:
    """The words of the cue that is being filled, and how full it is."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._words: list[_Word] = []
        self._line_length = 0
        self.n_lines = 1

    def has_room(self, word: _Word) -> bool:
        return self._line_length == 0 or self._line_length + len(word.text) <= self._width

    def break_line(self) -> None:
        self._line_length = 0
        self.n_lines += 1

    def add(self, word: _Word) -> None:
        if self._line_length == 0:
            text = word.text.strip()
            self._line_length = len(text)
            word = replace(word, text=f"\n{text}" if self._words else text)
        else:
            self._line_length += len(word.text)
        self._words.append(word)

    def take(self) -> Iterator[_Cue]:
        """The cue, if there is anything in it. The next one begins empty."""
        words, self._words = self._words, []
        self._line_length = 0
        self.n_lines = 1
        if words:
            yield _Cue(tuple(words))


def _cues_of_words(segments: Sequence[Entry], width: int | None, line_count: int | None) -> Iterator[_Cue]:
    """Cues in lines of at most `width` characters, joining spaces not counted.

    With both limits, words flow over the borders of segments, and a long pause ends a cue. Else each segment begins
    a new cue.
    """
    flows = width is not None and line_count is not None
    cue = _CueInMaking(1000 if width is None else width)
    last_start = segments[0]["start"]
    for segment in segments:
        if not segment.get("words"):  # could not be aligned: its text is shown as long as the segment lasts
            yield from cue.take()
            cue.add(_Word(_without_arrow(segment["text"]), None, None, segment))
            yield from cue.take()
            continue
        if not flows:
            yield from cue.take()
        for entry in segment["words"]:
            word = _Word(entry["word"], entry.get("start"), entry.get("end"), segment)
            paused = flows and word.start is not None and word.start - last_start > _LONG_PAUSE
            if paused or not cue.has_room(word):
                if paused or (line_count is not None and cue.n_lines >= line_count):
                    yield from cue.take()
                else:
                    cue.break_line()
            cue.add(word)
            last_start = last_start if word.start is None else word.start
    yield from cue.take()
