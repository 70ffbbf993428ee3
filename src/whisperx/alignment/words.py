"""From the times of characters to words and sentences."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isnan, nan
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from whisperx.alignment.sentences import Interval, punkt_spans, sentence_spans
from whisperx.schema import SingleAlignedSegment, SingleCharSegment, SingleWordSegment
from whisperx.tokenizer import LANGUAGES_WITHOUT_SPACES, UNSPACED_LANGUAGES

InterpolateMethod: TypeAlias = Literal["nearest", "linear", "ignore"]
Times: TypeAlias = npt.NDArray[np.float64]

# Thai and Lao vowels that are written in front of the letter they follow in speech, and those behind it that are no
# marks to Unicode.
_LEADING = frozenset("เแโใไເແໂໃໄ")
_TRAILING = frozenset("ะาำๅๆฯະາຳໆຯ\u200c\u200d")


@dataclass(frozen=True, slots=True)
class CharTimes:
    """When each character of a text is said: arrays (n_characters,), seconds rounded to 3 decimals; NaN: nobody
    knows."""

    start: Times
    end: Times
    score: Times

    @classmethod
    def unknown(cls, n_characters: int) -> "CharTimes":
        return cls(*(np.full(n_characters, nan) for _ in range(3)))


def aligned_sentences(
    text: str,
    times: CharTimes,
    window: tuple[float, float],
    language: str,
    method: InterpolateMethod,
    *,
    return_chars: bool,
) -> list[SingleAlignedSegment]:
    """The sentences of a segment with its words, in the order of the text; every word is timed unless `method` is
    "ignore".

    window : start and end of the segment. Words are spread over it where no character of the text has a time
    method : how a word without a time of its own gets one, from its neighbours; it has no `score` then
    """
    sentences = sentence_spans(text, language) or [(0, len(text))]
    spans = [list(_word_spans(text, sentence, language)) for sentence in sentences]
    flat = [span for words in spans for span in words]
    start = np.array([_least(times.start, span) for span in flat])
    end = np.array([_greatest(times.end, span) for span in flat])
    if np.isnan(start).all():
        known_start, known_end = _spread(flat, window)
    else:
        filled_by: InterpolateMethod = "linear" if method == "linear" else "nearest"
        known_start, known_end = fill_gaps(start, filled_by).round(3), fill_gaps(end, filled_by).round(3)
    shown_start, shown_end = (start, end) if method == "ignore" else (known_start, known_end)

    aligned: list[SingleAlignedSegment] = []
    done = 0
    for sentence, words in zip(sentences, spans, strict=True):
        mine = range(done, done + len(words))
        done += len(words)
        entry: SingleAlignedSegment = {
            "start": min((float(known_start[i]) for i in mine), default=window[0]),
            "end": max((float(known_end[i]) for i in mine), default=window[1]),
            "text": text[slice(*sentence)],
            "words": [
                _word(text[slice(*flat[i])], shown_start[i], shown_end[i], _mean(times.score, flat[i])) for i in mine
            ],
        }
        if return_chars:
            entry["chars"] = _chars(text, times, sentence)
        aligned.append(entry)
    return aligned


def aligned_as_whisperx(
    text: str, times: CharTimes, language: str, method: InterpolateMethod, *, return_chars: bool
) -> list[SingleAlignedSegment]:
    """As WhisperX 3.8: sentences reach one character too far, those with equal times become one, and the order is that
    of the times. (A sentence without any time, which WhisperX drops, has the nearest one.)"""
    sentences = punkt_spans(text, language)
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    word_numbers = np.zeros(len(text), np.int64)
    for i in range(1, len(text)):
        is_border = language in LANGUAGES_WITHOUT_SPACES or (text[i] == " " and first <= i < last)
        word_numbers[i] = word_numbers[i - 1] + is_border

    starts, ends, entries = [], [], []
    for begin, stop in sentences:
        span = (begin, min(stop + 1, len(text)))
        spoken = [i for i in range(*span) if text[i] != " "]
        starts.append(_least(times.start, span))
        ends.append(max((float(times.end[i]) for i in spoken if not isnan(times.end[i])), default=nan))
        words = _words_as_whisperx(text, times, span, word_numbers, method)
        entries.append((text[begin:stop], words, _chars(text, times, span)))
    filled_by: InterpolateMethod = "linear" if method == "linear" else "nearest"
    known = fill_gaps(np.array(starts), filled_by), fill_gaps(np.array(ends), filled_by)

    order = sorted(range(len(entries)), key=lambda i: (known[0][i], known[1][i]))
    joiner = "" if language in LANGUAGES_WITHOUT_SPACES else " "
    aligned: list[SingleAlignedSegment] = []
    for (start, end), group in groupby(order, key=lambda i: (float(known[0][i]), float(known[1][i]))):
        same = [entries[i] for i in group]
        entry: SingleAlignedSegment = {
            "start": start,
            "end": end,
            "text": joiner.join(sentence for sentence, _, _ in same),
            "words": [word for _, words, _ in same for word in words],
        }
        if return_chars:
            entry["chars"] = [char for _, _, chars in same for char in chars]
        aligned.append(entry)
    return aligned


def _words_as_whisperx(
    text: str, times: CharTimes, span: Interval, word_numbers: npt.NDArray[np.int64], method: InterpolateMethod
) -> list[SingleWordSegment]:
    found = []
    for _, group in groupby(range(*span), key=lambda i: int(word_numbers[i])):
        characters = list(group)
        if word := "".join(text[i] for i in characters).strip():
            begin = characters[0] + (text[characters[0]] == " ")  # a time of the space is none of the word
            found.append((word, (begin, characters[-1] + 1)))
    start = np.array([_least(times.start, inner) for _, inner in found])
    end = np.array([_greatest(times.end, inner) for _, inner in found])
    if method != "ignore" and not np.isnan(start).all():
        start, end = fill_gaps(start, method), fill_gaps(end, method)
    return [_word(word, start[i], end[i], _mean(times.score, inner)) for i, (word, inner) in enumerate(found)]


def fill_gaps(values: Times, method: InterpolateMethod) -> Times:
    """`values` with times instead of NaN, by their place in the row: the nearest known (of two the earlier), or on the
    line between two; before the first and after the last the nearest. With "ignore" they stay, as they do where nothing
    is known."""
    known = np.flatnonzero(~np.isnan(values))
    if method == "ignore" or not len(known):
        return values
    places = np.arange(len(values))
    if method == "linear":
        return np.interp(places, known, values[known])
    after = np.searchsorted(known, places).clip(max=len(known) - 1)
    before = (after - 1).clip(min=0)
    is_before = np.abs(places - known[before]) <= np.abs(known[after] - places)
    filled: Times = values[np.where(is_before, known[before], known[after])]
    return filled


def _spread(spans: Sequence[Interval], window: tuple[float, float]) -> tuple[Times, Times]:
    """Times over a window, in proportion to the characters."""
    lengths = np.array([stop - start for start, stop in spans], np.float64)
    borders = np.concatenate([[0.0], np.cumsum(lengths)]) / max(lengths.sum(), 1.0)
    times = (window[0] + borders * max(window[1] - window[0], 0.0)).round(3)
    return times[:-1], times[1:]


def _word_spans(text: str, sentence: Interval, language: str) -> Iterator[Interval]:
    if language in UNSPACED_LANGUAGES:
        yield from _unspaced_words(text, sentence)
    else:
        for match in re.finditer(r"\S+", text[slice(*sentence)]):
            yield sentence[0] + match.start(), sentence[0] + match.end()


def _unspaced_words(text: str, sentence: Interval) -> Iterator[Interval]:
    """A letter with its marks and the punctuation about it, or a run of Latin letters and digits. White space belongs
    to the word after it, so that the words joined are the text."""
    start, has_letter = sentence[0], False
    for i in range(*sentence):
        character = text[i]
        if has_letter and not _continues(text, i):
            yield start, i
            start, has_letter = i, False
        has_letter = has_letter or not (character.isspace() or _opens(character))
    if text[start : sentence[1]].strip():
        yield start, sentence[1]


def _continues(text: str, i: int) -> bool:
    """Whether a character belongs to the word of the one before it."""
    character, before = text[i], text[i - 1]
    if character.isspace() or _opens(character):
        return False
    if before in _LEADING or character in _TRAILING or unicodedata.category(character)[0] not in "LN":
        return True
    return _is_latin(character) and (_is_latin(before) or (before in ".,'’-:" and _is_latin(text[i - 2 : i - 1])))


def _opens(character: str) -> bool:
    return unicodedata.category(character) in ("Ps", "Pi")


def _is_latin(character: str) -> bool:
    return (character.isascii() and character.isalnum()) or "À" <= character <= "ɏ"


def _word(text: str, start: float, end: float, score: float) -> SingleWordSegment:
    word: SingleWordSegment = {"word": text}
    if not isnan(start):
        word["start"] = float(start)
    if not isnan(end):
        word["end"] = float(end)
    if not isnan(score):
        word["score"] = float(score)
    return word


def _chars(text: str, times: CharTimes, span: Interval) -> list[SingleCharSegment]:
    chars: list[SingleCharSegment] = []
    for i in range(*span):
        char: SingleCharSegment = {"char": text[i]}
        if not isnan(times.start[i]):
            char |= {"start": float(times.start[i]), "end": float(times.end[i]), "score": float(times.score[i])}
        chars.append(char)
    return chars


def _least(values: Times, span: Interval) -> float:
    known = values[slice(*span)]
    known = known[~np.isnan(known)]
    return float(known.min()) if len(known) else nan


def _greatest(values: Times, span: Interval) -> float:
    return -_least(-values, span)


def _mean(values: Times, span: Interval) -> float:
    known = values[slice(*span)]
    known = known[~np.isnan(known)]
    return float(known.mean().round(3)) if len(known) else nan  # 0.1325 is 0.132, as in WhisperX, where pandas rounds
