"""WhisperX's alignment of one text, step by step, for programs that call its functions; `align` has its own (trellis).

Emissions are log-probabilities (n_frames, n_columns), as NumPy arrays or torch tensors; tokens are columns of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import exp
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass
class Point:
    """What one frame emits on the path."""

    token_index: int
    time_index: int
    score: float  # probability


@dataclass
class Segment:
    """A stretch of frames, from `start` to before `end`."""

    label: str
    start: int
    end: int
    score: float

    @property
    def length(self) -> int:
        return self.end - self.start


def get_trellis(emission: Any, tokens: Sequence[int], blank_id: int = 0) -> npt.NDArray[np.float32]:
    """Log-probability (n_frames + 1, n_tokens + 1) of the best way to the first j tokens within the first t frames."""
    scores, columns = _as_array(emission), list(tokens)
    n_tokens = len(columns)
    trellis = np.zeros((len(scores) + 1, n_tokens + 1), np.float32)
    trellis[1:, 0] = np.cumsum(scores[:, blank_id], dtype=np.float64)
    trellis[0, 1:] = -np.inf
    if n_tokens:
        trellis[-n_tokens:, 0] = np.inf  # too late to begin, as WhisperX has it
    for t, frame in enumerate(scores):
        trellis[t + 1, 1:] = np.maximum(trellis[t, 1:] + frame[blank_id], trellis[t, :-1] + frame[columns])
    return trellis


def backtrack(trellis: Any, emission: Any, tokens: Sequence[int], blank_id: int = 0) -> list[Point] | None:
    """The best path, in order of time, to where the last token is likeliest; None where it misses the first token."""
    cells, scores = _as_array(trellis), _as_array(emission)
    left = len(tokens)
    path: list[Point] = []
    for t in range(int(cells[:, left].argmax()) - 1, -1, -1):
        column = int(tokens[left - 1])
        changes = bool(cells[t, left - 1] + scores[t, column] > cells[t, left] + scores[t, blank_id])
        path.append(Point(left - 1, t, exp(scores[t, column if changes else blank_id])))
        left -= changes
        if left == 0:
            return path[::-1]
    return None


def merge_repeats(path: Sequence[Point], transcript: str) -> list[Segment]:
    """A segment for each token: from its first frame to the next token's, its score the mean of its frames'."""
    segments = []
    for token, group in groupby(path, key=lambda point: point.token_index):
        points = list(group)
        score = sum(point.score for point in points) / len(points)
        segments.append(Segment(transcript[token], points[0].time_index, points[-1].time_index + 1, score))
    return segments


def merge_words(segments: Sequence[Segment], separator: str = "|") -> list[Segment]:
    """Words between separators: their labels joined, their score the mean weighted by length."""
    words = []
    for is_separator, group in groupby(segments, key=lambda segment: segment.label == separator):
        if not is_separator:
            parts = list(group)
            score = sum(part.score * part.length for part in parts) / sum(part.length for part in parts)
            words.append(Segment("".join(part.label for part in parts), parts[0].start, parts[-1].end, score))
    return words


def _as_array(value: Any) -> npt.NDArray[Any]:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
