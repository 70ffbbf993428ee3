"""Subtitles as WhisperX 3.8 builds them: a result to cues, the same text and times.

A segment without words between segments with words keeps its place, and an arrow in a word does not break the file;
with `compat` both come out as in WhisperX, which drops the one and writes the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypedDict

from whisperx.tokenizer import LANGUAGES_WITHOUT_SPACES, UNSPACED_LANGUAGES

Result: TypeAlias = Mapping[str, Any]  # schema.TranscriptionResult, perhaps with words and speakers
Entry: TypeAlias = Mapping[str, Any]  # a segment of it, or a word

_LONG_PAUSE = 3.0  # seconds between the starts of two words that end a cue, when words flow over segments


class SubtitleOptions(TypedDict, total=False):
    """How a result becomes cues. In WhisperX's style, a result without words has one for each segment."""

    max_line_width: int | None  # characters in a line, spaces not counted; None: no limit
    max_line_count: int | None  # lines in a cue; with a width, words flow over the borders of segments
    highlight_words: bool  # a cue for each word, in which it is underlined
    subtitle_style: str  # "whisperx", which the three above are for, or one of `readable.STYLES`
    compat: bool  # the very bytes of WhisperX, also where it loses text or writes what readers do not take


@dataclass(frozen=True, slots=True)
class Cue:
    """What is shown from `start` to `end` seconds; lines with a line break between."""

    start: float
    end: float
    text: str
    speaker: str | None = None  # is in the text, too


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


def whisperx_cues(result: Result, options: SubtitleOptions | None = None) -> Iterator[Cue]:
    """The cues of a result. When the first segment has words, they are built from words, else from segments."""
    segments = result["segments"]
    options = options or {}
    if not segments or "words" not in segments[0]:
        yield from map(_cue_of_segment, segments)
        return
    compat = options.get("compat", False)
    unspaced = LANGUAGES_WITHOUT_SPACES if compat else UNSPACED_LANGUAGES
    joiner = "" if result.get("language") in unspaced else " "
    groups = _groups_of_words(segments, options.get("max_line_width"), options.get("max_line_count"), compat)
    for group in groups:
        if options.get("highlight_words") and group.is_timed:
            yield from _highlighted(group, joiner)
        else:
            yield Cue(group.start, group.end, group.text(joiner), group.speaker)


def speaker_prefix(segment: Entry) -> str:
    speaker = segment.get("speaker")
    return "" if speaker is None else f"[{speaker}]: "


def without_arrow(text: str) -> str:
    """An arrow in a cue would read as a line of times."""
    return text.strip().replace("-->", "->")


def _cue_of_segment(segment: Entry) -> Cue:
    text = speaker_prefix(segment) + without_arrow(segment["text"])
    return Cue(segment["start"], segment["end"], text, segment.get("speaker"))


@dataclass(frozen=True, slots=True)
class _Word:
    text: str  # a line break in front starts a new line of the cue
    start: float | None
    end: float | None
    segment: Entry


@dataclass(frozen=True, slots=True)
class _Group:
    """The words of a cue."""

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

    @property
    def speaker(self) -> str | None:
        speaker: str | None = self.words[0].segment.get("speaker")
        return speaker

    def text(self, joiner: str, underlined: int | None = None) -> str:
        texts = [_underline(word.text) if i == underlined else word.text for i, word in enumerate(self.words)]
        return speaker_prefix(self.words[0].segment) + joiner.join(texts)


def _underline(text: str) -> str:
    word = text.lstrip()
    return f"{text[: len(text) - len(word)]}<u>{word}</u>"


def _highlighted(group: _Group, joiner: str) -> Iterator[Cue]:
    """One cue for each timed word, and one without underlining for each gap between them.

    WhisperX joins with a space around an underlined word in every language.
    """
    last, shown = group.start, format_timestamp(group.start)
    for i, word in enumerate(group.words):
        if word.start is None or word.end is None:
            continue
        if format_timestamp(word.start) != shown:
            yield Cue(last, word.start, group.text(joiner), group.speaker)
        yield Cue(word.start, word.end, group.text(" ", underlined=i), group.speaker)
        last, shown = word.end, format_timestamp(word.end)


class _GroupInMaking:
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

    def take(self) -> Iterator[_Group]:
        """The words, if there are any. The next cue begins empty."""
        words, self._words = self._words, []
        self._line_length = 0
        self.n_lines = 1
        if words:
            yield _Group(tuple(words))


def _groups_of_words(
    segments: Sequence[Entry], width: int | None, line_count: int | None, compat: bool
) -> Iterator[_Group]:
    """Words in lines of at most `width` characters, joining spaces not counted.

    With both limits, words flow over the borders of segments, and a long pause ends a cue. Else each segment begins
    a new cue.
    """
    flows = width is not None and line_count is not None
    group = _GroupInMaking(1000 if width is None else width)
    last_start = segments[0]["start"]
    for segment in segments:
        if not segment.get("words"):  # could not be aligned: its text is shown as long as the segment lasts
            if not compat:
                yield from group.take()
                group.add(_Word(without_arrow(segment["text"]), None, None, segment))
                yield from group.take()
            continue
        if not flows:
            yield from group.take()
        for entry in segment["words"]:
            text = entry["word"] if compat else entry["word"].replace("-->", "->")
            word = _Word(text, entry.get("start"), entry.get("end"), segment)
            paused = flows and word.start is not None and word.start - last_start > _LONG_PAUSE
            if paused or not group.has_room(word):
                if paused or (line_count is not None and group.n_lines >= line_count):
                    yield from group.take()
                else:
                    group.break_line()
            group.add(word)
            last_start = last_start if word.start is None else word.start
    yield from group.take()
