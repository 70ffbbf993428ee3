"""From turns to the speakers of segments and words.

A segment or word is said by who speaks longest during it. That alone, `compat=True`, is what WhisperX does. Otherwise
words that nobody claims take the speaker of the word beside them, a lone word within another's sentence is given to the
other, and a segment is split where the speaker changes.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from whisperx.schema import Turn

Entry: TypeAlias = dict[str, Any]  # a segment or a word, in the public shape

_MIN_WORDS_AROUND = 2  # on each side of a lone word that is taken for a slip


class IntervalTree:
    """Who speaks when, to be asked about other times.

    intervals : (start, end, speaker), in seconds, in any order
    """

    def __init__(self, intervals: Iterable[tuple[float, float, str]]) -> None:
        ordered = sorted(intervals, key=lambda interval: interval[0])
        self.starts = [float(start) for start, _, _ in ordered]
        self.ends = [float(end) for _, end, _ in ordered]
        self.speakers = [speaker for _, _, speaker in ordered]
        self._middles = [(start + end) / 2 for start, end in zip(self.starts, self.ends, strict=True)]
        # An interval that overlaps [start, end] starts at most this long before `start`.
        self._longest = max((e - s for s, e in zip(self.starts, self.ends, strict=True)), default=0.0)

    def query(self, start: float, end: float) -> list[tuple[str, float]]:
        """Each interval that overlaps the time from `start` to `end`: its speaker, and for how many seconds."""
        first, last = bisect_left(self.starts, start - self._longest), bisect_left(self.starts, end)
        overlaps = ((self.speakers[i], min(self.ends[i], end) - max(self.starts[i], start)) for i in range(first, last))
        return [(speaker, seconds) for speaker, seconds in overlaps if seconds > 0]

    def find_nearest(self, time: float) -> str | None:
        """The speaker of the interval whose middle is nearest; None where there are no intervals."""
        nearest = min(range(len(self._middles)), key=lambda i: abs(self._middles[i] - time), default=None)
        return None if nearest is None else self.speakers[nearest]

    def speaker(self, start: float, end: float, *, fill_nearest: bool = False) -> str | None:
        """Who speaks longest from `start` to `end`, the first of several equals; None where nobody does, or the
        nearest speaker."""
        seconds: dict[str, float] = {}
        for speaker, overlap in self.query(start, end):
            seconds[speaker] = seconds.get(speaker, 0.0) + overlap
        if seconds:
            return max(seconds, key=seconds.__getitem__)
        return self.find_nearest((start + end) / 2) if fill_nearest else None


def assign_speakers(turns: Sequence[Turn], result: Entry, *, fill_nearest: bool = False, compat: bool = False) -> Entry:
    """Give the segments and words of `result` a "speaker", in place; returns `result`.

    fill_nearest : give one to every segment and every word with a time, the nearest where nobody speaks
    compat : as WhisperX does, see above

    Words without "start" are left alone with `compat`, and take the speaker of the word beside them without.
    """
    if not turns or not result.get("segments"):
        return result
    tree = IntervalTree((turn.start, turn.end, turn.speaker) for turn in turns)
    for segment in result["segments"]:
        speaker = tree.speaker(segment["start"], segment["end"], fill_nearest=fill_nearest)
        if speaker is not None:
            segment["speaker"] = speaker
        for word in segment.get("words", []):
            if "start" in word:
                end = word.get("end", word["start"])
                speaker = tree.speaker(word["start"], end, fill_nearest=fill_nearest)
                if speaker is not None:
                    word["speaker"] = speaker
    if not compat:
        result["segments"] = [part for segment in result["segments"] for part in _improved(segment)]
    return result


def _improved(segment: Entry) -> list[Entry]:
    """A segment whose words have speakers -> one segment for each speaker in turn."""
    words = segment.get("words") or []
    speakers = _smoothed([word.get("speaker") for word in words])
    if not any(speakers):
        return [segment]
    for word, speaker in zip(words, speakers, strict=True):
        word["speaker"] = speaker
    changes = [i for i in range(1, len(words)) if speakers[i] != speakers[i - 1]]
    if not changes:
        segment["speaker"] = speakers[0]
        return [segment]
    parts = _split(segment, [0, *changes, len(words)])
    if parts is None:
        segment["speaker"] = Counter(speakers).most_common(1)[0][0]
        return [segment]
    return parts


def _smoothed(speakers: list[str | None]) -> list[str | None]:
    """Speakers of words, without gaps and without a lone word between at least two of one other speaker each side."""
    filled = list(speakers)
    for i in range(1, len(filled)):
        filled[i] = filled[i] or filled[i - 1]
    for i in range(len(filled) - 2, -1, -1):
        filled[i] = filled[i] or filled[i + 1]
    smooth = list(filled)
    for i in range(_MIN_WORDS_AROUND, len(filled) - _MIN_WORDS_AROUND):
        around = {*filled[i - _MIN_WORDS_AROUND : i], *filled[i + 1 : i + 1 + _MIN_WORDS_AROUND]}
        if len(around) == 1 and filled[i] not in around:
            smooth[i] = filled[i - 1]
    return smooth


def _split(segment: Entry, borders: list[int]) -> list[Entry] | None:
    """The parts of a segment between words, `borders` counted in words; None where the words are not in its text in
    this order, or a part would have no time."""
    text, words = segment["text"], segment["words"]
    positions = _positions(text, [word["word"] for word in words])
    if positions is None:
        return None
    cuts = [0, *(positions[border] for border in borders[1:-1]), len(text)]
    chars = segment.get("chars")
    if chars is not None and "".join(char["char"] for char in chars) not in (text, text.lstrip()):
        return None
    parts = []
    for (first, last), (begin, end) in zip(pairwise(borders), pairwise(cuts), strict=True):
        said = words[first:last]
        times = [word[key] for word in said for key in ("start", "end") if key in word]
        if not times:
            return None
        part = dict(segment)  # what is known about the whole, such as its log-probability, and the order of keys
        part |= {"start": min(times), "end": max(times), "words": said, "speaker": said[0]["speaker"]}
        part["text"] = text[begin:end] if begin == 0 else text[begin:end].lstrip()
        if end < len(text):
            part["text"] = part["text"].rstrip()
        if chars is not None:
            missing = len(text) - len(chars)  # a leading space
            part["chars"] = chars[max(begin - missing, 0) : end - missing]
        parts.append(part)
    # What comes before the first word and after the last belongs to the segment all the same.
    parts[0]["start"] = min(segment["start"], parts[0]["start"])
    parts[-1]["end"] = max(segment["end"], parts[-1]["end"])
    return parts


def _positions(text: str, words: list[str]) -> list[int] | None:
    """Where each word begins in the text; None unless all are there in order."""
    positions, end = [], 0
    for word in words:
        begin = text.find(word.strip(), end)
        if begin < 0:
            return None
        positions.append(begin)
        end = begin + len(word.strip())
    return positions
