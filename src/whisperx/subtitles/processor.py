"""WhisperX's `SubtitlesProcessor`: sentences cut at commas and conjunctions, for srt and vtt files."""

import math
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from whisperx.subtitles import cues
from whisperx.subtitles.languages import get_comma, get_conjunctions
from whisperx.tokenizer import UNSPACED_LANGUAGES

Fragment: TypeAlias = dict[str, Any]  # start, end, text

# Scripts whose characters are wide or stacked: shorter lines.
_DENSE = {"th", "lo", "my", "km", "am", "ko", "ja", "zh", "ti", "ta", "te", "kn", "ml", "hi", "ne", "mr", "ar", "fa",
          "ur", "ka"}  # fmt: skip
_SECONDS_PER_CHARACTER = 0.25  # of a word whose end is not known
_SMALL_GAP = 0.8  # seconds to what follows, up to which a fragment stays


def normal_round(n: float) -> int:
    """The nearest whole number; halves go up."""
    return math.floor(n + 0.5)


def format_timestamp(seconds: float, is_vtt: bool = False) -> str:
    """`HH:MM:SS,mmm`, or with a point for vtt. Raises AssertionError for a negative time."""
    return cues.format_timestamp(seconds, always_include_hours=True, decimal_marker="." if is_vtt else ",")


class SubtitlesProcessor:
    """Cuts the segments of a result, aligned or not, into short subtitles.

    Unlike in WhisperX, `advanced_splitting=False` writes each segment as it is, and not an empty file.
    """

    def __init__(
        self,
        segments: Sequence[dict[str, Any]],
        lang: str,
        max_line_length: int = 45,
        min_char_length_splitter: int = 30,
        is_vtt: bool = False,
    ) -> None:
        """
        segments : of a result; their words get times where they have none
        lang : code of the language, for its comma and conjunctions
        max_line_length, min_char_length_splitter : characters that make a subtitle too long, and the least on both
            sides of a cut; 30 and 20 in any case for scripts with wide or stacked characters
        """
        self.segments = segments
        self.lang = lang
        self.comma = get_comma(lang)
        self.conjunctions = set(get_conjunctions(lang))
        self.max_line_length, self.min_char_length_splitter = (
            (30, 20) if lang in _DENSE else (max_line_length, min_char_length_splitter)
        )
        self.is_vtt = is_vtt

    def estimate_timestamp_for_word(
        self, words: list[dict[str, Any]], i: int, next_segment_start_time: float | None = None
    ) -> None:
        """Give word `i` a start and an end, from its neighbours or from where the next segment starts."""
        word = words[i]
        seconds = len(word["word"]) * _SECONDS_PER_CHARACTER
        before = words[i - 1].get("end") if i > 0 else None
        after = words[i + 1].get("start") if i + 1 < len(words) else None
        if before is not None:
            word["start"] = before
            word["end"] = after if after is not None else self._last_end(before, seconds, next_segment_start_time)
        elif after is not None:
            word["start"], word["end"] = after - seconds, after
        elif next_segment_start_time:
            word["start"], word["end"] = next_segment_start_time - 1, next_segment_start_time - 0.5
        else:
            word["start"], word["end"] = 0, 0

    @staticmethod
    def _last_end(start: float, seconds: float, next_segment_start: float | None) -> float:
        if not next_segment_start:
            return start + seconds
        return next_segment_start if next_segment_start - start <= 1 else next_segment_start - 0.5

    def process_segments(self, advanced_splitting: bool = True) -> list[Fragment]:
        """Start, end and text of each subtitle."""
        fragments: list[Fragment] = []
        for i, segment in enumerate(self.segments):
            following = self.segments[i + 1]["start"] if i + 1 < len(self.segments) else None
            points = self.determine_advanced_split_points(segment, following) if advanced_splitting else []
            fragments += self.generate_subtitles_from_split_points(segment, points, following)
        return fragments

    def determine_advanced_split_points(
        self, segment: dict[str, Any], next_segment_start_time: float | None = None
    ) -> list[int]:
        """Indices of the words after which a segment is cut."""
        words = segment.get("words")
        if words is not None:
            for i, word in enumerate(words):
                if "start" not in word:
                    self.estimate_timestamp_for_word(words, i, next_segment_start_time)
        texts = self._texts(segment)
        lengths = [len(text) + len(self._joiner) for text in texts]
        points: list[int] = []
        begin = 0  # of the subtitle under way
        for i, text in enumerate(texts):
            before, after = sum(lengths[begin:i]), sum(lengths[i + 1 :])
            both_sides_are_long = min(before, after) >= self.min_char_length_splitter
            if before + lengths[i] >= self.max_line_length:
                if before >= self.min_char_length_splitter:
                    point = normal_round((begin + i) / 2)
                    points.append(point)
                    begin = point + 1
            elif both_sides_are_long and text.endswith(self.comma):
                points.append(i)
                begin = i + 1
            elif both_sides_are_long and text.lower() in self.conjunctions:
                points.append(i - 1)
                begin = i
        return points

    def generate_subtitles_from_split_points(
        self, segment: dict[str, Any], split_points: Sequence[int], next_start_time: float | None = None
    ) -> list[Fragment]:
        """The subtitles of a segment that is cut after these words."""
        texts = self._texts(segment)
        words = segment.get("words")
        bounds = [0, *(point + 1 for point in split_points), len(texts)]
        fragments: list[Fragment] = []
        for first, end in pairwise(bounds):
            if first >= end:
                continue
            if words and all("start" in word and "end" in word for word in words):
                times = words[first]["start"], words[end - 1]["end"]
                following = words[end]["start"] if end < len(words) else next_start_time
            else:  # evenly, as no word has its own time
                per_word = (segment["end"] - segment["start"]) / len(texts)
                times = segment["start"] + first * per_word, segment["start"] + end * per_word
                following = next_start_time if end == len(texts) else None
            fragment_end = times[1]
            if following is not None and following - fragment_end <= _SMALL_GAP:
                fragment_end = following
            text = self._joiner.join(texts[first:end]).strip()
            fragments.append({"start": times[0], "end": fragment_end, "text": text})
        return fragments

    def save(self, filename: str | os.PathLike[str] = "subtitles.srt", advanced_splitting: bool = True) -> int:
        """Write the subtitles to a file and return how many there are."""
        fragments = self.process_segments(advanced_splitting)
        blocks = ["WEBVTT\n\n"] if self.is_vtt else []
        for i, fragment in enumerate(fragments, start=1):
            start, end = (format_timestamp(fragment[key], self.is_vtt) for key in ("start", "end"))
            blocks.append(f"{i}\n{start} --> {end}\n{fragment['text']}\n\n")
        Path(filename).write_text("".join(blocks), encoding="utf-8", newline="\n")
        return len(fragments)

    @property
    def _joiner(self) -> str:
        return "" if self.lang in UNSPACED_LANGUAGES else " "

    @staticmethod
    def _texts(segment: dict[str, Any]) -> list[str]:
        words = segment.get("words")
        return segment["text"].split() if not words else [word["word"] for word in words]
