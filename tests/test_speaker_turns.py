"""Who speaks when, found in tones: each speaker hums at a frequency of their own, and fake networks hear that."""

import logging
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from whisperx import speaker_turns
from whisperx.audio import load_audio
from whisperx.errors import OptionError
from whisperx.models.segmentation import FIRST_FRAME_MIDDLE, FRAME_STEP, Geometry
from whisperx.schema import Audio, Turn
from whisperx.speaker_turns import DiarizeSettings, diarize

SAMPLE_RATE = 16000
CONVERSATION = [
    Turn(0.5, 6, "ann"),
    Turn(6.5, 13, "bob"),
    Turn(12, 17, "cid"),
    Turn(18, 24, "ann"),
    Turn(24, 30, "bob"),
]


def tones(turns: Sequence[Turn], seconds: float) -> Audio:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = 1e-4 * np.random.default_rng(0).standard_normal(len(time))
    names = sorted({turn.speaker for turn in turns})
    for turn in turns:
        frequency = 200 * 1.4 ** names.index(turn.speaker)
        sound += 0.1 * np.sin(2 * np.pi * frequency * time) * ((time >= turn.start) & (time < turn.end))
    return sound.astype(np.float32)


class Segmenter:
    """Knows the turns; in each window it numbers the speakers anew."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.turns = turns

    def geometry(self, step_seconds: float | None = None) -> Geometry:
        return Geometry(5 * SAMPLE_RATE, round((step_seconds or 0.5) * SAMPLE_RATE))

    def scores(
        self,
        audio: Audio,
        *,
        step_seconds: float | None = None,
        on_windows: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        geometry = self.geometry(step_seconds)
        scores = np.zeros((geometry.n_windows(len(audio)), geometry.n_frames, 3), np.float32)
        for window in range(len(scores)):
            first = window * geometry.step + FIRST_FRAME_MIDDLE
            times = (first + FRAME_STEP * np.arange(geometry.n_frames)) / SAMPLE_RATE
            active = {
                name: np.any([(times >= t.start) & (times < t.end) for t in self.turns if t.speaker == name], axis=0)
                for name in sorted({turn.speaker for turn in self.turns})
            }
            heard = [name for name in active if active[name].any()]
            for local, name in enumerate(heard[window % 2 :: 1] + heard[: window % 2]):
                scores[window, :, local % 3] = np.maximum(scores[window, :, local % 3], active[name])
            if on_windows is not None:
                on_windows(window + 1, len(scores))
        return scores


def encoder(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """The bands that sound, as a direction."""
    energies = np.stack([np.exp(piece).mean(axis=0) for piece in pieces])
    return energies / np.linalg.norm(energies, axis=1, keepdims=True)


def found(turns: Sequence[Turn], seconds: float = 30, **options: object) -> speaker_turns.Diarization:
    options = {"segmenter": Segmenter(turns), "encoder": encoder} | options
    return diarize(tones(turns, seconds), **options)  # type: ignore[arg-type]


def rounded(turns: Sequence[Turn]) -> list[tuple[float, float, str]]:
    return [(round(turn.start, 1), round(turn.end, 1), turn.speaker) for turn in turns]


def test_turns_are_those_that_were_made_named_in_order_of_appearance():
    names = {"ann": "SPEAKER_00", "bob": "SPEAKER_01", "cid": "SPEAKER_02"}
    made = [replace(turn, speaker=names[turn.speaker]) for turn in CONVERSATION]
    turns = found(CONVERSATION).turns
    assert [turn.speaker for turn in turns] == [turn.speaker for turn in made]
    times = np.array([[(turn.start, turn.end) for turn in several] for several in (turns, made)])
    assert np.abs(times[0] - times[1]).max() < 0.05


def test_embeddings_are_of_length_one_for_each_name():
    embeddings = found(CONVERSATION).embeddings
    assert list(embeddings) == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_02"]
    assert [np.linalg.norm(vector) for vector in embeddings.values()] == pytest.approx([1, 1, 1])
    assert all(type(x) is float for vector in embeddings.values() for x in vector)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6])
def test_number_of_speakers_told_is_the_number_found(number: int):
    assert len(found(CONVERSATION, num_speakers=number).embeddings) == number


@pytest.mark.parametrize(
    ("limits", "expected"),
    [({"min_speakers": 2}, 3), ({"min_speakers": 5}, 5), ({"max_speakers": 2}, 2), ({"max_speakers": 9}, 3)],
)
def test_limits_are_honoured(limits: dict[str, int], expected: int):
    assert len(found(CONVERSATION, **limits).embeddings) == expected


def test_ten_speakers_are_ten():
    turns = [Turn(4 * i, 4 * i + 3.8, f"speaker {i % 10}") for i in range(20)]
    assert len(found(turns, 80).embeddings) == 10


def test_one_speaker_is_one():
    assert len(found([Turn(1, 29, "ann")]).embeddings) == 1


def test_more_speakers_than_voices_is_a_warning(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        turns = found([Turn(0.5, 3, "ann")], 4, num_speakers=5).turns
    assert rounded(turns) == [(0.5, 3.0, "SPEAKER_00")]
    assert caplog.messages == ["Only 1 of 5 speakers could be told apart in this recording"]


@pytest.mark.parametrize("seconds", [0, 0.01, 1, 30])
def test_silence_has_no_turns(seconds: float):
    assert found([], seconds) == speaker_turns.Diarization([], {})


def test_one_word_is_one_turn():
    assert rounded(found([Turn(0.4, 0.7, "ann")], 1).turns) == [(0.4, 0.7, "SPEAKER_00")]


def test_embeddings_that_are_no_numbers_make_one_speaker():
    turns = found(CONVERSATION, encoder=lambda pieces: np.full((len(pieces), 4), np.nan)).turns
    assert {turn.speaker for turn in turns} == {"SPEAKER_00"}
    assert turns[0].start == pytest.approx(0.5, abs=0.05)
    assert turns[-1].end == pytest.approx(30, abs=0.05)


def test_one_embedding_that_is_no_number_costs_nobody_a_name():
    def forgetful(pieces: Sequence[np.ndarray]) -> np.ndarray:
        vectors = encoder(pieces)
        vectors[3] = np.nan
        return vectors

    assert len(found(CONVERSATION, encoder=forgetful).embeddings) == 3


def test_samples_that_are_no_numbers_do_no_harm():
    audio = tones(CONVERSATION, 30)
    audio[::16000] = np.nan
    assert len(diarize(audio, segmenter=Segmenter(CONVERSATION), encoder=encoder).embeddings) == 3


def test_voices_of_a_long_recording_that_are_not_clustered_are_given_to_the_nearest(monkeypatch: pytest.MonkeyPatch):
    settings = DiarizeSettings(step=0.1)  # many windows
    expected = found(CONVERSATION, settings=settings)
    monkeypatch.setattr(speaker_turns, "_MAX_CLUSTERED", 15)
    assert found(CONVERSATION, settings=settings).turns == expected.turns


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"num_speakers": 0}, "num_speakers is a whole number from 1 up, not 0."),
        ({"min_speakers": -1}, "min_speakers is a whole number from 1 up, not -1."),
        ({"max_speakers": 2.5}, "max_speakers is a whole number from 1 up, not 2.5."),
        ({"num_speakers": True}, "num_speakers is a whole number from 1 up, not True."),
        ({"min_speakers": 3, "max_speakers": 2}, "min_speakers (3) is more than max_speakers (2)."),
    ],
)
def test_numbers_that_make_no_sense_are_refused(limits: dict[str, int], message: str):
    with pytest.raises(OptionError) as error:
        found(CONVERSATION, **limits)
    assert str(error.value) == message


def test_progress_rises_to_100():
    heard: list[float] = []
    found(CONVERSATION, progress_callback=heard.append)
    assert heard == sorted(set(heard))
    assert heard[-1] == 100


def test_shorter_pauses_than_asked_for_do_not_end_a_turn():
    turns = [Turn(1, 4, "ann"), Turn(4.8, 8, "ann")]
    assert len(found(turns, 10).turns) == 2
    assert len(found(turns, 10, settings=DiarizeSettings(min_pause_seconds=1)).turns) == 1


def test_shorter_turns_than_asked_for_are_dropped():
    turns = [Turn(1, 4, "ann"), Turn(6, 6.5, "ann")]
    assert rounded(found(turns, 10, settings=DiarizeSettings(min_turn_seconds=1)).turns) == [(1.0, 4.0, "SPEAKER_00")]


@pytest.mark.parametrize("is_bob_heard", [False, True])
def test_windows_that_disagree_are_averaged(is_bob_heard: bool):
    # The first window hears Ann from 1 s to its end, the second, 2.5 s later, does not, but perhaps Bob from its start:
    # at 3.75 s each counts for as much, and at no time do two speak.
    geometry = Geometry(5 * SAMPLE_RATE, 5 * SAMPLE_RATE // 2)
    scores = np.zeros((2, geometry.n_frames, 2), np.float32)
    scores[0, geometry.n_frames // 5 :, 0] = 1
    scores[1, :, 1] = is_bob_heard
    voices = speaker_turns.Voices(np.array([0, 1]), np.array([0, 1]), np.array([2.5, 2.5]), np.eye(2))
    settings = DiarizeSettings(min_speaker_seconds=1)
    turns = speaker_turns.turns_of_voices(voices, scores, geometry, 15 * SAMPLE_RATE // 2, 1, None, settings).turns
    expected = [(1.0, 3.75)] + [(3.75, 7.5)] * is_bob_heard
    assert np.array([(turn.start, turn.end) for turn in turns]) == pytest.approx(np.array(expected), abs=0.05)


def one_window(scores: np.ndarray, vectors: np.ndarray, n_samples: int = 5 * SAMPLE_RATE) -> list[Turn]:
    """The turns in a recording of one window, `(n_frames, n_local)`, whose voices have those vectors."""
    geometry = Geometry(5 * SAMPLE_RATE, 5 * SAMPLE_RATE // 2)
    n_voices = len(vectors)
    voices = speaker_turns.Voices(np.zeros(n_voices, np.int64), np.arange(n_voices), np.full(n_voices, 2.5), vectors)
    settings = DiarizeSettings(min_speaker_seconds=1)
    return speaker_turns.turns_of_voices(voices, scores[None], geometry, n_samples, 1, None, settings).turns


def test_nobody_speaks_where_the_only_score_is_below_the_onset():
    scores = np.full((Geometry(5 * SAMPLE_RATE, SAMPLE_RATE).n_frames, 1), 0.3, np.float32)
    scores[: len(scores) // 2] = 0.6
    assert rounded(one_window(scores, np.eye(1))) == [(0.0, 2.5, "SPEAKER_00")]


@pytest.mark.parametrize("n_samples", range(4 * SAMPLE_RATE, 4 * SAMPLE_RATE + FRAME_STEP, 30))
def test_last_turn_ends_with_the_recording_at_the_latest(n_samples: int):
    scores = np.ones((Geometry(5 * SAMPLE_RATE, SAMPLE_RATE).n_frames, 1), np.float32)
    (turn,) = one_window(scores, np.eye(1), n_samples)
    assert n_samples / SAMPLE_RATE - FRAME_STEP / SAMPLE_RATE < turn.end <= n_samples / SAMPLE_RATE


@pytest.mark.parametrize(
    ("vectors", "expected"), [([[1], [np.nan]], (0.0, 2.5, "SPEAKER_00")), ([[np.nan], [1]], (2.5, 5.0, "SPEAKER_00"))]
)
def test_voice_without_a_vector_is_nobodys(vectors: list[list[float]], expected: tuple[float, float, str]):
    n_frames = Geometry(5 * SAMPLE_RATE, SAMPLE_RATE).n_frames
    scores = np.zeros((n_frames, 2), np.float32)
    scores[: n_frames // 2, 0] = scores[n_frames // 2 :, 1] = 1
    assert rounded(one_window(scores, np.array(vectors))) == [expected]


@pytest.mark.parametrize("n_frames", [1, 7, 100])
def test_frames_are_ranked_in_blocks_that_do_not_show(monkeypatch: pytest.MonkeyPatch, n_frames: int):
    rng = np.random.default_rng(0)
    geometry = Geometry(160_000, 80_000)
    scores = rng.random((4, geometry.n_frames, 3)).astype(np.float32)
    windows, locals_ = (index.ravel() for index in np.indices((4, 3)))
    voices = speaker_turns.Voices(windows, locals_, np.ones(12), np.ones((12, 2)))
    speakers = speaker_turns.Speakers(np.ones((5, 2)), rng.integers(0, 5, 12), np.zeros(5, np.int64))
    arguments = (scores, geometry, 400_000, voices, speakers, speaker_turns.DiarizeSettings())
    whole = speaker_turns._activity(*arguments)
    assert whole.any()
    monkeypatch.setattr(speaker_turns, "_FRAMES_AT_ONCE", n_frames)
    assert (speaker_turns._activity(*arguments) == whole).all()


def test_memory_does_not_grow_with_the_length(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speaker_turns, "_WINDOWS_AT_ONCE", 4)

    def peak(seconds: int) -> int:
        turns = [Turn(start, start + 4, "ann") for start in range(0, seconds, 5)]
        audio, segmenter = tones(turns, seconds), Segmenter(turns)
        tracemalloc.start()
        diarize(audio, segmenter=segmenter, encoder=encoder)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(10)  # what is kept for ever
    growth = (peak(120) - peak(40)) / 80
    assert growth < 16_000, "bytes for a second: what is kept of a window is its scores and a vector for each voice"


def test_two_voices_of_a_window_are_two_speakers_though_like_the_same():
    assert speaker_turns._match(np.array([[0.8, 0.1], [0.9, 0.5]])).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("other_from", "expected", "is_alone"),
    [(5.0, (1.25, 3.75), True), (2.0, (0.0, 2.0), True), (0.3, (1.25, 3.75), False)],
)
def test_vector_is_made_of_the_middle_where_the_voice_is_alone(
    other_from: float, expected: tuple[float, float], is_alone: bool
):
    geometry = Geometry(5 * SAMPLE_RATE, 5 * SAMPLE_RATE // 2)
    active = np.ones((geometry.n_frames, 2), bool)
    active[: round(other_from / 5 * geometry.n_frames), 1] = False
    frames, alone = speaker_turns._frames_to_embed(active, 0, 498, DiarizeSettings(max_embedded_seconds=2.5))
    assert (frames[0] / 100, frames[-1] / 100) == pytest.approx(expected, abs=0.05)
    assert alone == is_alone


@pytest.mark.shared
def test_two_speakers_of_a_telephone_call_are_told_apart(shared: Path):
    turns = diarize(load_audio(shared / "audio" / "diarization" / "pyannote_sample.wav")).turns
    assert {turn.speaker for turn in turns} == {"SPEAKER_00", "SPEAKER_01"}
