import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisperx.audio import N_SAMPLES, SAMPLE_RATE
from whisperx.chunks import pack
from whisperx.errors import OptionError
from whisperx.schema import Span

NOISE = np.random.default_rng(1).normal(0, 0.1, 7 * SAMPLE_RATE).astype(np.float32)


def noise(seconds: float) -> np.ndarray:
    return np.resize(NOISE, round(seconds * SAMPLE_RATE))


def bounds(spans: list[tuple[float, float]], chunk_size: float = 30.0) -> list[tuple[float, float]]:
    chunks = pack([Span(*span) for span in spans], noise(200), chunk_size)
    return [(chunk.start, chunk.end) for chunk in chunks]


@pytest.mark.parametrize(
    ("spans", "chunk_size", "expected"),
    [
        ([], 30, []),
        ([(1, 2)], 30, [(1, 2)]),
        ([(1, 2), (5, 29)], 30, [(1, 29)]),
        ([(0, 2), (5, 30)], 30, [(0, 30)]),  # exactly 30 s fit
        ([(0, 2), (5, 30.01)], 30, [(0, 2), (5, 30.01)]),
        ([(0, 10), (40, 50), (55, 69), (71, 80)], 30, [(0, 10), (40, 69), (71, 80)]),
        ([(0, 4), (4, 8), (8, 12)], 8, [(0, 8), (8, 12)]),
    ],
)
def test_spans_merge_while_they_fit(spans, chunk_size, expected):
    assert bounds(spans, chunk_size) == expected


def test_a_long_span_is_cut_at_its_quietest_place():
    audio = noise(70)
    for second in (21.5, 47.25):
        at = round(second * SAMPLE_RATE)
        audio[at - 2400 : at + 2400] *= 0.01
    chunks = pack([Span(0, 70)], audio)
    cuts = [chunk.end for chunk in chunks[:-1]]
    assert cuts == pytest.approx([21.5, 47.25], abs=0.06)
    assert np.array_equal(np.concatenate([chunk.samples for chunk in chunks]), audio)


def test_a_cut_is_never_made_in_the_first_half():
    audio = noise(40)
    audio[5 * SAMPLE_RATE : 6 * SAMPLE_RATE] = 0
    assert pack([Span(0, 40)], audio)[0].end >= 15


def test_the_samples_of_a_chunk_reach_from_its_first_to_its_last_span():
    audio = noise(20)
    (chunk,) = pack([Span(1.5, 3), Span(4, 10.25)], audio)
    assert np.array_equal(chunk.samples, audio[24000:164000])
    assert chunk.spans == (Span(1.5, 3), Span(4, 10.25))


@pytest.mark.parametrize("chunk_size", [0, -1, 30.5, float("nan")])
def test_a_chunk_size_out_of_range_is_refused(chunk_size):
    with pytest.raises(OptionError, match="chunk_size"):
        pack([], noise(1), chunk_size)


@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.02, 75)), max_size=8),
    st.floats(0.5, 30),
)
def test_chunks_are_short_enough_in_order_and_lose_no_speech(gaps_and_lengths, chunk_size):
    spans, now = [], 0.0
    for gap, length in gaps_and_lengths:
        spans.append(Span(now + gap, now + gap + length))
        now = spans[-1].end
    audio = noise(now + 1)
    chunks = pack(spans, audio, chunk_size)
    for chunk in chunks:
        assert 0 < chunk.end - chunk.start <= chunk_size + 1e-9
        assert 0 < len(chunk.samples) <= N_SAMPLES
        assert (chunk.start, chunk.end) == (chunk.spans[0].start, chunk.spans[-1].end)
    pieces = [span for chunk in chunks for span in chunk.spans]
    assert all(a.end <= b.start for a, b in itertools.pairwise(pieces))
    assert sum(p.end - p.start for p in pieces) == pytest.approx(sum(s.end - s.start for s in spans))
