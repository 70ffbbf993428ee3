"""Spans of speech -> chunks for the decoder: as long as fits, never longer. Pure NumPy.

The merge is the "VAD Cut & Merge" of the WhisperX paper (Bain et al. 2023, https://arxiv.org/abs/2303.00747). The list
depends on the audio and `chunk_size` alone, so it is the same however many chunks are decoded at a time.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from whisperx.audio import CHUNK_LENGTH, SAMPLE_RATE
from whisperx.errors import OptionError
from whisperx.schema import Audio, Chunk, Span

_FRAME = SAMPLE_RATE // 100  # 10 ms, the grid on which a cut is looked for
_QUIET_FRAMES = (
    20  # 200 ms, about a pause between two words; the cut is made in the middle of the quietest such stretch
)


def pack(spans: Sequence[Span], audio: Audio, chunk_size: float = CHUNK_LENGTH) -> list[Chunk]:
    """Merge spans, in time order, into chunks of at most `chunk_size` seconds (more than 0, at most 30).

    A chunk reaches from the start of its first span to the end of its last, pauses between them included. A span that
    is longer by itself is cut at its quietest place first.

    Raises OptionError for a `chunk_size` out of its range.
    """
    if not 0 < chunk_size <= CHUNK_LENGTH:
        raise OptionError(f"chunk_size is more than 0 and at most {CHUNK_LENGTH} seconds, not {chunk_size}.")
    groups: list[list[Span]] = []
    for span in _cut(spans, audio, chunk_size):
        if groups and span.end - groups[-1][0].start <= chunk_size:
            groups[-1].append(span)
        else:
            groups.append([span])
    return [_chunk(tuple(group), audio) for group in groups]


def _chunk(spans: tuple[Span, ...], audio: Audio) -> Chunk:
    start, end = spans[0].start, spans[-1].end
    first = round(start * SAMPLE_RATE)
    last = min(round(end * SAMPLE_RATE), first + CHUNK_LENGTH * SAMPLE_RATE)  # rounding may add a sample
    return Chunk(start, end, spans, audio[first:last])


def _cut(spans: Iterable[Span], audio: Audio, chunk_size: float) -> Iterable[Span]:
    for span in spans:
        start = span.start
        while span.end - start > chunk_size:
            cut = _quietest(audio, start + chunk_size / 2, start + chunk_size)
            yield Span(start, cut)
            start = cut
        yield Span(start, span.end)


def _quietest(audio: Audio, start: float, end: float) -> float:
    """The middle of the quietest 200 ms within these seconds; `end` where that is too short to tell."""
    part = audio[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    n_frames = len(part) // _FRAME
    if n_frames <= _QUIET_FRAMES:
        return end
    energy = np.square(part[: n_frames * _FRAME].reshape(n_frames, _FRAME), dtype=np.float64).sum(axis=1)
    sums = np.concatenate([[0.0], np.cumsum(energy)])
    quietest = int(np.argmin(sums[_QUIET_FRAMES:] - sums[:-_QUIET_FRAMES]))
    return start + (quietest + _QUIET_FRAMES / 2) * _FRAME / SAMPLE_RATE
