"""Subtitles that are easy to read, by the rules of those who publish them, and a check of any subtitles against these.

Words are cut into cues by dynamic programming: of all ways to cut, the one is taken whose breaks cost least (after
punctuation nothing, before a conjunction little, after an article much). Times are whole milliseconds. A cue begins
with its first word, and later only where speech is faster than cues may follow each other.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from whisperx.subtitles.cues import Cue, Entry, Result, without_arrow
from whisperx.subtitles.languages import (
    CLAUSE_ENDS,
    CLOSING,
    SENTENCE_ENDS,
    get_conjunctions,
    get_leading_words,
    get_prepositions,
)
from whisperx.tokenizer import UNSPACED_LANGUAGES

MAX_LINES = 2


@dataclass(frozen=True)
class Style:
    """The rules of one publisher. Times are in milliseconds, widths in characters, spaces and speaker included.

    A full-width character (Chinese, Japanese, Korean) is as wide as two others.
    """

    line_width: int
    min_duration: int
    max_duration: int
    min_gap: int  # between two cues
    jerky_gap: int  # a shorter one is closed to `min_gap`, for it flickers
    max_linger: int  # how long a cue may stay after its last word, for those who are still reading
    reading_speed: float  # characters per second


STYLES = {
    # Timed Text Style Guide, General Requirements: 5/6 s to 7 s, gaps of 2 frames or at least 12, at 24 frames a
    # second; out-times at most 12 frames late; 17 characters a second.
    "netflix": Style(42, 834, 7000, 84, 500, 500, 17.0),
    # Subtitle Guidelines: 160 to 180 words a minute (of 6 characters, the space included), no gap or one of a second,
    # at most 1.5 s late; lines of 37 characters fill 68 % of the width in its fonts.
    "bbc": Style(37, 1000, 7000, 0, 1000, 1500, 18.0),
}
# Netflix gives 16 full-width characters to Chinese and Korean, 13 to Japanese.
_NARROWER = {"zh": 32, "ko": 32, "ja": 26}

_LONG_PAUSE = 1500  # after which a cue ends in any case
# What it costs to break at a place; a cue that breaks the flow for no reason costs as much as _EACH_CUE.
_AFTER_SENTENCE, _AFTER_CLAUSE, _BEFORE_CONJUNCTION, _BEFORE_PREPOSITION, _ANYWHERE, _BAD = 0.0, 0.6, 1.0, 1.6, 2.5, 8.0
_EACH_CUE = 1.0
_SENTENCES_TOGETHER = 2.0
_TOO_SHORT = 20.0  # for each second that a cue has less than the minimum
_PAUSE_INSIDE = 2.0  # for each second of silence inside a cue
_SECOND_LINE = 0.25  # of what breaking the line costs


class Broken(NamedTuple):
    """A rule that a cue breaks."""

    cue: int  # index
    rule: str  # "line width", "line count", "one line", "line break", "empty", "duration", "overlap" or "gap"
    detail: str


@dataclass(frozen=True, slots=True)
class _Token:
    """A word, a piece of one that is too long for a line, or the label of a speaker."""

    text: str
    start: int
    end: int
    joiner: str  # what stands between the token before it and this one in the same line
    speaker: str | None


def style_for(name: str, language: str | None) -> Style:
    """The rules of a style of STYLES, its lines narrower for the languages that ask for it. Raises KeyError."""
    style = STYLES[name]
    return replace(style, line_width=min(style.line_width, _NARROWER.get(language or "", style.line_width)))


def readable_cues(result: Result, style_name: str) -> list[Cue]:
    """The cues of a result, with words or without, in a style of STYLES.

    Words without times get theirs from their neighbours, segments without words spread theirs evenly.
    """
    language = result.get("language") or ""
    style = style_for(style_name, language)
    breaks = _Breaks(language)
    tokens = _tokens(result["segments"], language, style)
    cuts = _cut(tokens, style, breaks)
    groups = [tokens[start:end] for start, end in pairwise(cuts)]
    texts = [_lay_out(_labelled(group, style), style, breaks) for group in groups]
    times = _times(groups, texts, style)
    return [
        Cue(start / 1000, end / 1000, text, group[0].speaker)
        for (start, end), text, group in zip(times, texts, groups, strict=True)
    ]


def lint(cues: Sequence[Cue], style_name: str, language: str | None = None) -> list[Broken]:
    """The rules of a style that cues break, by cue.

    That a line ends badly is told only where another break would fit. Whether cues come with the sound cannot be seen
    from them, and reading speed depends on the speaker: neither is checked here.
    """
    style = style_for(style_name, language)
    breaks = _Breaks(language or "")
    return [
        Broken(i, rule, detail)
        for i, cue in enumerate(cues)
        for rule, detail in (
            *_broken_in_text(cue.text, style, breaks),
            *_broken_in_time(cue, cues[i + 1] if i + 1 < len(cues) else None, style),
        )
    ]


def width(text: str) -> int:
    """How wide a text is, in Latin characters."""
    return len(text) if text.isascii() else sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


# Rules


def _broken_in_text(text: str, style: Style, breaks: "_Breaks") -> Iterator[tuple[str, str]]:
    lines = text.split("\n")
    if not all(line.strip() for line in lines):
        yield "empty", repr(text)
    if len(lines) > MAX_LINES:
        yield "line count", f"{len(lines)} lines"
    for line in lines:
        if width(line) > style.line_width:
            yield "line width", f"{width(line)} characters: {line}"
    if len(lines) == MAX_LINES:
        if width(" ".join(lines)) <= style.line_width:
            yield "one line", text.replace("\n", " / ")
        words = [_LABEL_OR_WORD.findall(line) for line in lines]
        tokens = [_Token(word, 0, 0, " ", None) for line in words for word in line]
        chosen = len(words[0])
        if all(words) and breaks.cost(tokens, chosen) >= _BAD:
            fitting = [k for k in range(1, len(tokens)) if _fits_broken(tokens, k, style)]
            if any(breaks.cost(tokens, k) < _BAD for k in fitting):
                yield "line break", text.replace("\n", " / ")


def _broken_in_time(cue: Cue, following: Cue | None, style: Style) -> Iterator[tuple[str, str]]:
    start, end = _ms(cue.start), _ms(cue.end)
    if not style.min_duration <= end - start <= style.max_duration:
        yield "duration", f"{(end - start) / 1000} s"
    if following is not None:
        gap = _ms(following.start) - end
        if gap < 0:
            yield "overlap", f"{-gap / 1000} s"
        elif gap < style.min_gap or style.min_gap < gap < style.jerky_gap:
            yield "gap", f"{gap / 1000} s"


# Words and their times


def _ms(seconds: float) -> int:
    return round(1000 * float(seconds))


def _tokens(segments: Sequence[Entry], language: str, style: Style) -> list[_Token]:
    """The words of all segments in order, none too long for a line, their times never going back."""
    tokens: list[_Token] = []
    now = 0
    for segment in segments:
        words = [word for entry in segment.get("words") or () if (word := _timed(entry, segment)).text]
        if not words:
            texts = without_arrow(segment["text"]).split()
            words = [_TimedWord(text, None, None, segment.get("speaker")) for text in texts]
        spread = _with_times(words, max(0, _ms(segment["start"])), max(0, _ms(segment["end"])))
        for text, start, end, speaker in spread:
            now = max(now, start)
            token = _Token(text, now, max(now, end), "" if language in UNSPACED_LANGUAGES else " ", speaker)
            tokens += _in_pieces(token, style.line_width)
    return tokens


class _TimedWord(NamedTuple):
    text: str
    start: int | None
    end: int | None
    speaker: str | None


def _timed(entry: Entry, segment: Entry) -> _TimedWord:
    start, end = (_known_ms(entry.get(key)) for key in ("start", "end"))
    if start is None or end is None:
        start = end = None
    return _TimedWord(" ".join(without_arrow(entry["word"]).split()), start, end, segment.get("speaker"))


def _known_ms(seconds: float | None) -> int | None:
    return None if seconds is None or not math.isfinite(seconds) or seconds < 0 else _ms(seconds)


def _with_times(words: Sequence[_TimedWord], start: int, end: int) -> Iterator[tuple[str, int, int, str | None]]:
    """Words with their times; those that have none share what lies between their neighbours, by their lengths."""
    i = 0
    while i < len(words):
        j = i
        while j < len(words) and words[j].start is None:
            j += 1
        following = words[j].start if j < len(words) else end
        room = max(0, (end if following is None else following) - start)
        n_characters = sum(len(word.text) for word in words[i:j])
        for word in words[i:j]:
            share = round(room * len(word.text) / n_characters)
            yield word.text, start, start + share, word.speaker
            start += share
        if j < len(words):
            first, last = words[j].start or 0, words[j].end or 0
            yield words[j].text, first, last, words[j].speaker
            start = last
        i = j + 1


def _in_pieces(token: _Token, line_width: int) -> list[_Token]:
    """A word that is wider than a line, as several tokens without anything between them."""
    if width(token.text) <= line_width:
        return [token]
    pieces = [""]
    for character in token.text:
        if width(pieces[-1] + character) > line_width:
            pieces.append("")
        pieces[-1] += character
    share = (token.end - token.start) / len(pieces)
    return [
        _Token(
            piece,
            token.start + round(i * share),
            token.start + round((i + 1) * share),
            token.joiner if i == 0 else "",
            token.speaker,
        )
        for i, piece in enumerate(pieces)
    ]


def _labelled(group: Sequence[_Token], style: Style) -> list[_Token]:
    """The tokens of a cue, with who speaks in front."""
    speaker = group[0].speaker
    if speaker is None:
        return list(group)
    label = _Token(_label(speaker, style), group[0].start, group[0].start, "", None)
    return [label, replace(group[0], joiner=" "), *group[1:]]


def _label(speaker: str, style: Style) -> str:
    name, longest = " ".join(speaker.replace("[", "(").replace("]", ")").split()), style.line_width // 2
    while width(f"[{name}]:") > longest:
        name = name.removesuffix("…")[:-1] + "…"
    return f"[{name}]:"


# Where to break


class _Breaks:
    """What it costs to break before a token, in one language."""

    def __init__(self, language: str) -> None:
        self._conjunctions = frozenset(get_conjunctions(language))
        self._prepositions = frozenset(get_prepositions(language))
        self._leading = frozenset(get_leading_words(language)) | self._prepositions | self._conjunctions

    def cost(self, tokens: Sequence[_Token], i: int) -> float:
        before, after = tokens[i - 1].text, tokens[i].text
        if not tokens[i].joiner and after[0] in SENTENCE_ENDS + CLAUSE_ENDS + CLOSING:
            return _BAD  # a line does not begin with what belongs to the line before
        if _ends_with(before, SENTENCE_ENDS):
            return _AFTER_SENTENCE
        if before.lower() in self._leading or _is_label(before):
            return _BAD
        if _ends_with(before, CLAUSE_ENDS):
            return _AFTER_CLAUSE
        word = after.lower().strip(SENTENCE_ENDS + CLAUSE_ENDS + CLOSING)
        if word in self._conjunctions:
            return _BEFORE_CONJUNCTION
        return _BEFORE_PREPOSITION if word in self._prepositions else _ANYWHERE


def _ends_with(word: str, characters: str) -> bool:
    return word.rstrip(CLOSING).endswith(tuple(characters))


def _is_label(text: str) -> bool:
    return text.startswith("[") and text.endswith("]:")


# Without spaces nobody can tell where a word ends.
_LABEL_OR_WORD = re.compile(r"^\[[^\]]*\]:|\S+")


def _cut(tokens: Sequence[_Token], style: Style, breaks: _Breaks) -> list[int]:
    """Where cues begin, and where the last one ends: the cheapest way to cut."""
    n = len(tokens)
    costs = [0.0, *[math.inf] * n]
    came_from = [0] * (n + 1)
    break_costs = [0.0, *(breaks.cost(tokens, i) for i in range(1, n)), 0.0]
    for start in range(n):
        for end, cost in _cues_from(tokens, start, break_costs, style):
            if costs[start] + cost < costs[end]:
                costs[end], came_from[end] = costs[start] + cost, start
    cuts = [n]
    while cuts[-1] > 0:
        cuts.append(came_from[cuts[-1]])
    return cuts[::-1]


def _cues_from(
    tokens: Sequence[_Token], start: int, break_costs: Sequence[float], style: Style
) -> Iterator[tuple[int, float]]:
    """The ends of the cues that may begin with a token, and what each costs."""
    first = tokens[start]
    lines = _Lines(style.line_width)
    if first.speaker is not None:
        lines.add(_label(first.speaker, style), "")
    inside = 0.0
    last_end = first.end
    for end in range(start + 1, len(tokens) + 1):
        token = tokens[end - 1]
        if end - 1 > start:
            pause = token.start - last_end
            spans = max(last_end, token.end) - first.start
            is_over = token.speaker != first.speaker or pause >= _LONG_PAUSE
            # Shorter than the maximum, so that there is room to close a gap.
            if is_over or spans > style.max_duration - style.jerky_gap:
                return
            inside += _PAUSE_INSIDE * max(0, pause) / 1000
            inside += _SENTENCES_TOGETHER if _ends_with(tokens[end - 2].text, SENTENCE_ENDS) else 0.0
        if not lines.add(token.text, token.joiner if end - 1 > start or first.speaker is None else " "):
            return
        last_end = max(last_end, token.end)
        room = tokens[end].start - style.min_gap - first.start if end < len(tokens) else style.min_duration
        lacking = max(0, style.min_duration - room) / 1000
        second_line = _SECOND_LINE if lines.n > 1 else 0.0
        yield end, break_costs[end] + _EACH_CUE + inside + second_line + _TOO_SHORT * lacking


class _Lines:
    """How full the lines of a cue are, when each takes what fits."""

    def __init__(self, line_width: int) -> None:
        self._line_width = line_width
        self._used = 0
        self.n = 1

    def add(self, text: str, joiner: str) -> bool:
        """Whether there was room."""
        needed = width(text) + (len(joiner) if self._used else 0)
        if self._used + needed <= self._line_width:
            self._used += needed
            return True
        self.n += 1
        self._used = width(text)
        return self.n <= MAX_LINES


def _lay_out(tokens: Sequence[_Token], style: Style, breaks: _Breaks) -> str:
    """One line if it fits, else two, broken at the best place, of lines that are about as long."""
    if _line_width(tokens) <= style.line_width:
        return _line(tokens)
    places = [k for k in range(1, len(tokens)) if _fits_broken(tokens, k, style)]

    def cost(k: int) -> float:
        uneven = abs(_line_width(tokens[:k]) - _line_width(tokens[k:])) / style.line_width
        return breaks.cost(tokens, k) + 2 * uneven

    k = min(places, key=cost)
    return f"{_line(tokens[:k])}\n{_line(tokens[k:])}"


def _fits_broken(tokens: Sequence[_Token], k: int, style: Style) -> bool:
    return max(_line_width(tokens[:k]), _line_width(tokens[k:])) <= style.line_width


def _line(tokens: Sequence[_Token]) -> str:
    return tokens[0].text + "".join(token.joiner + token.text for token in tokens[1:])


def _line_width(tokens: Sequence[_Token]) -> int:
    return width(_line(tokens))


# Times


def _times(groups: Sequence[Sequence[_Token]], texts: Sequence[str], style: Style) -> list[tuple[int, int]]:
    times: list[tuple[int, int]] = []
    for i, (group, text) in enumerate(zip(groups, texts, strict=True)):
        start = max(group[0].start, times[-1][1] + style.min_gap if times else 0)
        spoken_until = max(token.end for token in group)
        following = groups[i + 1][0].start if i + 1 < len(groups) else None
        times.append((start, _end(start, spoken_until, following, width(text), style)))
    return times


def _end(start: int, spoken_until: int, following: int | None, n_characters: int, style: Style) -> int:
    """When a cue ends: with the sound, or later for the sake of the reader, but in time for the next one."""
    earliest, latest = start + style.min_duration, start + style.max_duration
    time_to_read = start + math.ceil(1000 * n_characters / style.reading_speed)
    wanted = max(spoken_until, min(time_to_read, spoken_until + style.max_linger))
    end = min(max(wanted, earliest), latest)
    if following is None or following - end >= style.jerky_gap:
        return end
    # Up to the next one, unless that would be too short, which delays it, or too long.
    closed = following - style.min_gap
    return following - style.jerky_gap if closed > latest else max(closed, earliest)
