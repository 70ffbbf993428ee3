from pathlib import Path

import numpy as np
import pytest
from humming import hum, silence
from hypothesis import given
from hypothesis import strategies as st

from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.errors import OptionError
from whisperx.models import silero
from whisperx.models.silero import WINDOW, load_silero
from whisperx.schema import Span
from whisperx.vads import Silero, load_vad, whole_recording
from whisperx.vads.binarize import binarize, bridge_pauses, drop_short, hysteresis, pad_regions

# Scores as drawings: "#" surely speech, "-" between the thresholds, "." surely none.
SCORES = {"#": 0.9, "-": 0.4, ".": 0.1}


def scores(drawing: str) -> np.ndarray:
    return np.array([SCORES[mark] for mark in drawing], np.float32)


def regions(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, np.int64).reshape(-1, 2)


@pytest.mark.parametrize(
    ("drawing", "expected"),
    [
        ("", []),
        (".", []),
        ("-", []),
        ("#", [(0, 1)]),
        ("..##..", [(2, 4)]),
        ("##..##", [(0, 2), (4, 6)]),
        (".#--#.", [(1, 5)]),  # between the thresholds speech goes on
        (".--#..", [(3, 4)]),  # but does not begin there
        ("#.--#", [(0, 1), (4, 5)]),  # nor does it come back
        ("--.#-", [(3, 5)]),
        ("#-.-#-", [(0, 2), (4, 6)]),
    ],
)
def test_speech_begins_at_onset_and_ends_below_offset(drawing: str, expected: list[tuple[int, int]]):
    found = hysteresis(scores(drawing), onset=0.5, offset=0.35)
    np.testing.assert_array_equal(found, regions(*expected))


def test_a_score_equal_to_onset_begins_speech_and_one_equal_to_offset_keeps_it():
    found = hysteresis(np.array([0.25, 0.5, 0.25, 0.0]), onset=0.5, offset=0.25)
    np.testing.assert_array_equal(found, regions((1, 3)))


@pytest.mark.parametrize(
    ("before", "min_silence", "after"),
    [
        ([], 10, []),
        ([(5, 9)], 10, [(5, 9)]),
        ([(0, 10), (19, 30)], 10, [(0, 30)]),
        ([(0, 10), (20, 30)], 10, [(0, 10), (20, 30)]),
        ([(0, 10), (12, 20), (22, 30), (50, 60)], 10, [(0, 30), (50, 60)]),
        ([(0, 10), (11, 20)], 0, [(0, 10), (11, 20)]),
    ],
)
def test_a_pause_shorter_than_min_silence_does_not_end_a_span(before, min_silence, after):
    np.testing.assert_array_equal(bridge_pauses(regions(*before), min_silence), regions(*after))


@pytest.mark.parametrize(
    ("before", "min_speech", "after"),
    [
        ([], 10, []),
        ([(0, 9), (20, 30), (40, 41)], 10, [(20, 30)]),
        ([(0, 9)], 0, [(0, 9)]),
    ],
)
def test_a_span_shorter_than_min_speech_is_dropped(before, min_speech, after):
    np.testing.assert_array_equal(drop_short(regions(*before), min_speech), regions(*after))


@pytest.mark.parametrize(
    ("before", "pad", "after"),
    [
        ([], 10, []),
        ([(20, 30)], 10, [(10, 40)]),
        ([(5, 95)], 10, [(0, 100)]),  # not beyond the recording
        ([(20, 30), (50, 60)], 10, [(10, 40), (40, 70)]),
        ([(20, 30), (41, 60)], 10, [(10, 35), (35, 70)]),  # they meet in the middle
        ([(20, 30), (31, 40), (90, 95)], 10, [(10, 30), (30, 50), (80, 100)]),
        ([(20, 30)], 0, [(20, 30)]),
    ],
)
def test_padding_stays_in_the_recording_and_meets_in_the_middle(before, pad, after):
    np.testing.assert_array_equal(pad_regions(regions(*before), pad, n_samples=100), regions(*after))


@pytest.mark.parametrize(
    ("drawing", "lengths", "expected"),
    [
        ("....", {}, []),
        ("####", {}, [(0, 395)]),  # the recording ends within the last window
        (".##.", {}, [(100, 300)]),
        ("#.#.", {"min_silence": 101}, [(0, 300)]),
        ("#.#.", {"min_silence": 101, "min_speech": 300}, [(0, 300)]),  # short ones are dropped after bridging
        ("#.#.", {"min_silence": 100, "min_speech": 101}, []),
        (".#..", {"min_speech": 100, "pad": 50}, [(50, 250)]),
        (".#..", {"min_speech": 101, "pad": 50}, []),  # padding does not make a span longer in this sense
        ("#..#", {"min_silence": 201, "pad": 10}, [(0, 395)]),
        ("#..#", {"min_silence": 200, "pad": 150}, [(0, 200), (200, 395)]),
    ],
)
def test_spans_of_drawn_scores(drawing: str, lengths: dict[str, int], expected: list[tuple[int, int]]):
    arguments = {"min_speech": 0, "min_silence": 0, "pad": 0} | lengths
    spans = binarize(scores(drawing), window=100, n_samples=395, onset=0.5, offset=0.35, **arguments)
    assert spans == [Span(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in expected]


@given(
    probabilities=st.lists(st.floats(0, 1, width=32), max_size=60),
    cut=st.integers(0, WINDOW - 1),
    onset=st.floats(0.1, 0.9),
    hysteresis_width=st.floats(0, 0.09),
    min_speech=st.integers(0, 5000),
    min_silence=st.integers(0, 5000),
    pad=st.integers(0, 8000),
)
def test_spans_are_ordered_within_the_recording_and_hold_every_long_run_of_speech(
    probabilities, cut, onset, hysteresis_width, min_speech, min_silence, pad
):
    n_samples = max(len(probabilities) * WINDOW - cut, 0)
    spans = binarize(
        np.array(probabilities, np.float32),
        window=WINDOW,
        n_samples=n_samples,
        onset=onset,
        offset=onset - hysteresis_width,
        min_speech=min_speech,
        min_silence=min_silence,
        pad=pad,
    )
    edges = [edge for span in spans for edge in (span.start, span.end)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= n_samples / SAMPLE_RATE for edge in edges)
    assert all(span.end > span.start for span in spans)

    run_start = None
    for index, probability in enumerate([*probabilities, 0.0]):
        if probability >= np.float32(onset) and index < len(probabilities):
            run_start = index if run_start is None else run_start
        elif run_start is not None:
            run = (run_start * WINDOW, min(index * WINDOW, n_samples))
            if run[1] - run[0] >= min_speech:
                assert any(s.start <= run[0] / SAMPLE_RATE and run[1] / SAMPLE_RATE <= s.end for s in spans)
            run_start = None


# What the ONNX file of silero-vad 6.2.3 makes of the sound below, every fourth window.
ONNX_PROBABILITIES = [
    0.0017, 0.0059, 0.0054, 0.0047, 0.6046, 0.9819, 0.9907, 0.9851, 0.9937, 0.9659, 0.9757, 0.9663, 0.975,
    0.9609, 0.9666, 0.9456, 0.965, 0.9392, 0.9155, 0.9261, 0.1545, 0.0095, 0.0076, 0.007, 0.006,
]  # fmt: skip
VOICE = np.concatenate([silence(0.5), hum(2), silence(0.7)])


def test_probabilities_are_those_of_the_published_network():
    np.testing.assert_allclose(load_silero()(VOICE)[::4], ONNX_PROBABILITIES, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("n_samples", "n_windows"), [(0, 0), (1, 1), (511, 1), (512, 1), (513, 2), (51_200, 100)])
def test_there_is_one_probability_for_each_started_window(n_samples: int, n_windows: int):
    probabilities = load_silero()(np.zeros(n_samples, np.float32))
    assert probabilities.shape == (n_windows,)
    assert probabilities.dtype == np.float32


def test_the_last_window_is_filled_with_silence():
    short = VOICE[: 30 * WINDOW + 100]
    filled = np.pad(short, (0, WINDOW - 100))
    np.testing.assert_array_equal(load_silero()(short), load_silero()(filled))


def test_every_recording_starts_from_a_fresh_state():
    first = load_silero()(VOICE)
    load_silero()(hum(3))
    np.testing.assert_array_equal(load_silero()(VOICE), first)


@pytest.mark.parametrize("windows_at_once", [1, 7, 100])
def test_blocks_do_not_show_in_the_probabilities(monkeypatch: pytest.MonkeyPatch, windows_at_once: int):
    whole = load_silero()(VOICE)
    monkeypatch.setattr(silero, "_BLOCK", windows_at_once)
    np.testing.assert_allclose(load_silero()(VOICE), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_one_broken_sample_does_not_silence_the_rest(broken: float):
    audio = VOICE.copy()
    audio[100] = broken
    np.testing.assert_allclose(load_silero()(audio), load_silero()(VOICE), rtol=0, atol=1e-6)
    assert np.isnan(audio[100]) or np.isinf(audio[100])  # the caller's array is left alone


def test_silero_finds_the_voice_between_two_silences():
    (span,) = Silero(speech_pad_ms=0)(VOICE)
    assert span.start == pytest.approx(0.5, abs=0.1)
    assert span.end == pytest.approx(2.5, abs=0.1)


def test_padding_widens_the_span():
    (tight,) = Silero(speech_pad_ms=0)(VOICE)
    (wide,) = Silero(speech_pad_ms=200)(VOICE)
    assert (wide.start, wide.end) == pytest.approx((tight.start - 0.2, tight.end + 0.2))


def test_silero_finds_nothing_in_silence_noise_or_no_audio():
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * SAMPLE_RATE).astype(np.float32)
    assert [Silero()(audio) for audio in (silence(3), noise, silence(0))] == [[], [], []]


def test_offset_is_honoured_and_never_above_onset():
    probabilities = load_silero()(VOICE)
    onset = float(np.median(probabilities[probabilities > 0.9]))  # the voice crosses it many times
    spans = {offset: Silero(onset, offset, 0, 0, 0)(VOICE) for offset in (0.1, onset, 0.999)}
    assert len(spans[0.1]) == 1
    assert len(spans[onset]) > 1
    assert spans[0.999] == spans[onset]


def test_offset_follows_onset_when_it_is_not_given():
    assert Silero(0.5)(VOICE) == Silero(0.5, 0.35)(VOICE)
    assert Silero(0.05)(VOICE) == Silero(0.05, 0.01)(VOICE)


@pytest.mark.parametrize("onset", [0, 1, -0.1, 1.5, float("nan")])
def test_an_onset_outside_0_and_1_is_an_error(onset: float):
    with pytest.raises(OptionError, match=r"^vad_onset is a decimal value between 0 and 1\.$"):
        load_vad("silero", onset=onset)


@pytest.mark.parametrize("offset", [0, 1, -0.1, 1.5])
def test_an_offset_outside_0_and_1_is_an_error(offset: float):
    with pytest.raises(ValueError, match=r"^vad_offset is a decimal value between 0 and 1\.$"):
        load_vad("silero", offset=offset)


@pytest.mark.parametrize("name", ["min_silence_duration_ms", "min_speech_duration_ms", "speech_pad_ms"])
def test_a_negative_length_is_an_error(name: str):
    with pytest.raises(OptionError, match=rf"^{name} is a number of milliseconds from 0 up, not -1\.$"):
        Silero(**{name: -1})


def test_load_vad_chooses_by_name():
    assert load_vad("silero", onset=0.3, offset=0.2) == Silero(0.3, 0.2)
    assert load_vad("none") is whole_recording


def test_an_unknown_method_is_an_error():
    with pytest.raises(ValueError, match=r"^Invalid vad_method: webrtc$"):
        load_vad("webrtc")


def test_none_gives_the_whole_recording_as_one_span():
    assert whole_recording(silence(1.5)) == [Span(0, 1.5)]
    assert whole_recording(silence(0)) == []


@pytest.mark.shared
def test_speech_is_found_in_a_recording_and_not_in_music_or_silence(shared: Path):
    def share_of_speech(file: str) -> float:
        audio = load_audio(shared / "audio" / file)
        return sum(span.end - span.start for span in Silero()(audio)) * SAMPLE_RATE / len(audio)

    assert share_of_speech("english/jfk.flac") > 0.7
    assert share_of_speech("nonspeech/music_admiralbob77_-_Choice_-_Drum-bass.ogg") < 0.05
    assert share_of_speech("nonspeech/ina/silence2sec.wav") == 0
