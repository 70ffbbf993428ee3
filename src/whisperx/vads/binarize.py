"""Scores -> spans: from one speech score per window to where somebody speaks.

Everything is counted in samples, as integers; seconds appear only in the spans that come out. Regions are int64
`(n, 2)`: start and end, in order of time, not overlapping.
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from whisperx.audio import SAMPLE_RATE
from whisperx.errors import OptionError
from whisperx.schema import Span

Scores: TypeAlias = npt.NDArray[np.float32]
Regions: TypeAlias = npt.NDArray[np.int64]


def check_settings(settings: Mapping[str, float | None]) -> None:
    """Raises OptionError for a threshold (`vad_...`) not between 0 and 1, or a number of milliseconds below 0."""
    for name, value in settings.items():
        if name.startswith("vad_") and value is not None and not 0 < value < 1:
            raise OptionError(f"{name} is a decimal value between 0 and 1.")
        if name.endswith("_ms") and value is not None and value < 0:
            raise OptionError(f"{name} is a number of milliseconds from 0 up, not {value}.")


def binarize(
    scores: Scores,
    *,
    window: int,
    n_samples: int,
    onset: float,
    offset: float,
    min_speech: int,
    min_silence: int,
    pad: int,
) -> list[Span]:
    """Spans of speech in a recording of `n_samples`, in order of time, not overlapping.

    scores : float32 `(n_windows,)`; score i is for samples `window * i` to `window * (i + 1)`
    onset, offset : speech begins with a score of at least `onset`, lasts until one below `offset`
    min_silence : a pause shorter than this many samples does not end a span
    min_speech : then a span shorter than this is dropped
    pad : samples added at both ends of what is left; two spans meet in the middle of a pause too short for both
    """
    regions = bridge_pauses(hysteresis(scores, onset, offset) * window, min_silence)
    regions = pad_regions(drop_short(regions, min_speech), pad, n_samples)
    return [Span(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in regions.tolist()]


def hysteresis(scores: Scores, onset: float, offset: float) -> Regions:
    """Regions, in windows, that begin with a score >= `onset` and end before the next one < `offset`.

    An `offset` above `onset` counts as `onset`.
    """
    # A score between the two decides nothing: it goes with the last one that did.
    decides = (scores >= onset) | (scores < offset)
    last_decisive = np.maximum.accumulate(np.where(decides, np.arange(len(scores)), 0))
    is_speech = scores[last_decisive] >= onset
    return np.flatnonzero(np.diff(is_speech, prepend=False, append=False)).reshape(-1, 2)


def bridge_pauses(regions: Regions, min_silence: int) -> Regions:
    """Join neighbours with less than `min_silence` between them."""
    borders = regions.ravel()
    pauses = borders[1:-1].reshape(-1, 2)
    pauses = pauses[pauses[:, 1] - pauses[:, 0] >= min_silence]
    return np.concatenate([borders[:1], pauses.ravel(), borders[-1:]]).reshape(-1, 2)


def drop_short(regions: Regions, min_speech: int) -> Regions:
    """Leave out regions shorter than `min_speech`."""
    return regions[regions[:, 1] - regions[:, 0] >= min_speech]


def split_long(regions: Regions, scores: Scores, max_windows: int) -> Regions:
    """Cut regions, counted in windows, that are longer than `max_windows` (1 or more), as often as it takes: each time
    before the lowest score in the second half of what fits."""
    pieces = []
    for region_start, end in regions.tolist():
        start = region_start
        while end - start > max_windows:
            second_half = start + max(1, max_windows // 2)
            cut = second_half + int(np.argmin(scores[second_half : start + max_windows + 1]))
            pieces.append((start, cut))
            start = cut
        pieces.append((start, end))
    return np.array(pieces, np.int64).reshape(-1, 2)


def pad_regions(regions: Regions, pad: int, n_samples: int) -> Regions:
    """Widen each region by `pad` on both sides, within the recording and at most to the middle of a pause."""
    limits = np.concatenate([[0], (regions[:-1, 1] + regions[1:, 0]) // 2, [n_samples]])
    starts = np.maximum(regions[:, 0] - pad, limits[:-1])
    ends = np.minimum(regions[:, 1] + pad, limits[1:])
    return np.column_stack([starts, ends])
