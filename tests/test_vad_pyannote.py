from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.errors import OptionError
from whisperx.vads import Pyannote, load_vad
from whisperx.vads.binarize import split_long

FRAME = 0.016875
FIRST = 495 / SAMPLE_RATE


def scores_of(text: str) -> np.ndarray:
    """One frame for each digit, in tenths."""
    return np.array([int(digit) for digit in text], np.float32) / 10


def frames_of(vad: Pyannote, scores: np.ndarray) -> list[tuple[float, float]]:
    """Spans, in frames."""
    spans = replace(vad, speech_pad_ms=0).spans(scores, len(scores) * 270 + 720)
    return [(round((s.start - FIRST) / FRAME, 6), round((s.end - FIRST) / FRAME, 6)) for s in spans]


@pytest.mark.parametrize(
    ("vad", "scores", "expected"),
    [
        (Pyannote(), "", []),
        (Pyannote(), "0000", []),
        (Pyannote(), "0099900", [(2, 5)]),
        (Pyannote(), "99900", [(0, 3)]),
        (Pyannote(), "00999", [(2, 4)]),  # the last frame's middle: nothing is known behind it
        (Pyannote(), "00009", []),
        (Pyannote(), "0094449030", [(2, 7)]),  # 0.4 is above WhisperX's 0.363
        (Pyannote(vad_offset=0.5), "0094449030", [(2, 3), (6, 7)]),
        (Pyannote(vad_onset=0.95), "0099900", []),
        (Pyannote(vad_onset=0.1, vad_offset=0.9), "0012100", [(2, 5)]),  # an offset above the onset counts as it
        (Pyannote(min_silence_duration_ms=30), "090900900", [(1, 4), (6, 7)]),
        (Pyannote(min_silence_duration_ms=35), "090900900", [(1, 7)]),
        (Pyannote(min_speech_duration_ms=20), "0900990", [(4, 6)]),
        (Pyannote(max_speech_duration_s=0.07), "09999697990", [(1, 5), (5, 7), (7, 10)]),
    ],
)
def test_scores_become_spans_between_the_middles_of_frames(vad, scores, expected):
    assert frames_of(vad, scores_of(scores)) == expected


def test_padding_stays_in_the_recording_and_meets_in_the_middle_of_a_pause():
    spans = Pyannote(speech_pad_ms=1000).spans(scores_of("0990000990"), 10 * 270 + 720)
    borders = [s for span in spans for s in (span.start, span.end)]
    middle = (495 + 5 * 270) / SAMPLE_RATE
    np.testing.assert_allclose(borders, [0, middle, middle, (10 * 270 + 720) / SAMPLE_RATE], atol=1 / SAMPLE_RATE)


def test_long_span_is_cut_at_the_lowest_score_of_the_second_half():
    scores = scores_of("9199919998")
    assert split_long(np.array([[0, 10]]), scores, 6).tolist() == [[0, 5], [5, 10]]  # not at the 1 in the first half
    assert split_long(np.array([[0, 10]]), scores, 10).tolist() == [[0, 10]]
    assert split_long(np.array([[0, 3], [4, 6]]), scores, 1).tolist() == [[0, 1], [1, 2], [2, 3], [4, 5], [5, 6]]
    assert split_long(np.empty((0, 2), np.int64), scores, 3).shape == (0, 2)


def test_speech_between_silences_is_found(demo_audio: Path):
    audio = np.pad(load_audio(demo_audio)[: 2 * SAMPLE_RATE], SAMPLE_RATE)
    spans = load_vad("pyannote", onset=0.5, offset=0.363)(audio)
    assert 0.4 < spans[0].start < 1.4
    assert 2.5 < spans[-1].end < 3.8
    assert load_vad("pyannote")(np.zeros(SAMPLE_RATE, np.float32)) == []
    assert load_vad("pyannote")(np.zeros(0, np.float32)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vad_onset", 0), ("vad_onset", 1.5), ("vad_offset", 1), ("speech_pad_ms", -1), ("min_speech_duration_ms", -1),
        ("min_silence_duration_ms", -5), ("max_speech_duration_s", 0),
    ],
)  # fmt: skip
def test_number_out_of_its_range_is_an_error(name, value):
    with pytest.raises(OptionError, match=name):
        replace(Pyannote(), **{name: value})
