"""The pipeline with its own networks, on sound that nobody makes by speaking, or that is very short."""

from pathlib import Path

import numpy as np
import pytest

from whisperx.audio import load_audio
from whisperx.schema import Audio
from whisperx.speaker_turns import Diarization, diarize

SAMPLE_RATE = 16000
SECONDS = 8.0


def chord() -> Audio:
    """Three notes with eight harmonics each and a slow vibrato."""
    time = np.arange(int(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    sound = np.zeros_like(time)
    for note in (220.0, 277.2, 329.6):
        phase = 2 * np.pi * note * time + 3 * np.sin(2 * np.pi * 5 * time)
        sound += sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 9))
    return (0.2 * sound / np.abs(sound).max()).astype(np.float32)


def white_noise() -> Audio:
    return (0.1 * np.random.default_rng(0).standard_normal(int(SECONDS * SAMPLE_RATE))).astype(np.float32)


def check(found: Diarization, seconds: float) -> None:
    assert len(found.turns) <= 4
    assert all(0 <= turn.start < turn.end <= seconds for turn in found.turns)
    assert list(found.embeddings) == sorted({turn.speaker for turn in found.turns})
    lengths = [np.linalg.norm(vector) for vector in found.embeddings.values()]
    assert lengths == pytest.approx([1] * len(lengths))


def test_nobody_speaks_in_noise():
    assert diarize(white_noise()) == Diarization([], {})


def test_speakers_asked_for_in_noise_are_a_warning(caplog: pytest.LogCaptureFixture):
    assert diarize(white_noise(), num_speakers=3) == Diarization([], {})
    assert caplog.messages == ["Only 0 of 3 speakers could be told apart in this recording"]


@pytest.mark.parametrize("n_samples", [0, 1, 399, SAMPLE_RATE])
def test_nobody_speaks_in_next_to_nothing(n_samples: int):
    assert diarize(np.zeros(n_samples, np.float32), num_speakers=2) == Diarization([], {})


def test_a_second_of_speech_is_one_speaker(demo_audio: Path):
    second = load_audio(demo_audio)[SAMPLE_RATE // 2 :][:SAMPLE_RATE]
    for limits in ({}, {"num_speakers": 2}, {"min_speakers": 2, "max_speakers": 9}):
        assert {turn.speaker for turn in diarize(second, **limits).turns} == {"SPEAKER_00"}


@pytest.mark.parametrize("num_speakers", [None, 3])
def test_chord_has_few_turns_or_none(num_speakers: int | None):
    check(diarize(chord(), num_speakers=num_speakers), SECONDS)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["speechbrain_noise2.wav", "music_Kevin_MacLeod_-_Vibe_Ace.ogg"])
def test_recorded_noise_and_music_have_few_turns_or_none(shared: Path, name: str):
    audio = load_audio(shared / "audio" / "nonspeech" / name)[: int(2 * SECONDS * SAMPLE_RATE)]
    check(diarize(audio), len(audio) / SAMPLE_RATE)
