"""The front end beside OpenAI's, computed by torch."""

import numpy as np
import pytest
import whisper.audio

from whisperx import audio
from whisperx.audio import load_audio, log_mel_spectrogram, mel_filters, pad_or_trim

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.1, 480_000).astype(np.float32)
TIME = np.arange(480_000) / 16_000
SOUNDS = {
    "noise": NOISE,
    "faint noise": NOISE * 1e-4,
    "loud noise": np.clip(NOISE * 100, -1, 1),
    "silence": np.zeros(480_000, np.float32),
    "tone": np.sin(2 * np.pi * 440 * TIME).astype(np.float32),
    "sweep": np.sin(2 * np.pi * 130 * TIME**2).astype(np.float32),
    "click": np.eye(1, 480_000, 81_870, dtype=np.float32)[0],
    "constant": np.full(480_000, 0.5, np.float32),
    "201 samples": NOISE[:201],
    "319 samples": NOISE[:319],
    "one second": NOISE[:16_000],
    "one second, padded": pad_or_trim(NOISE[:16_000]),
    "45 seconds": RNG.normal(0, 0.1, 720_000).astype(np.float32),
}


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("samples", SOUNDS.values(), ids=SOUNDS)
def test_log_mel_is_openais(samples, n_mels):
    result = log_mel_spectrogram(samples, n_mels)
    expected = whisper.audio.log_mel_spectrogram(samples, n_mels).numpy()
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() < 1e-4


@pytest.mark.parametrize("n_mels", [80, 128])
def test_log_mel_of_speech_is_openais(shared, n_mels):
    files = sorted((shared / "audio" / "librispeech" / "test-clean").glob("*.flac"))[::6]
    assert files
    for file in files:
        for samples in (load_audio(file), pad_or_trim(load_audio(file))):
            expected = whisper.audio.log_mel_spectrogram(samples, n_mels).numpy()
            assert np.abs(log_mel_spectrogram(samples, n_mels) - expected).max() < 1e-4


def test_log_mel_pads_as_openais_does():
    samples = NOISE[:50_000]
    expected = whisper.audio.log_mel_spectrogram(samples, padding=480_000).numpy()
    assert np.abs(log_mel_spectrogram(samples, padding=480_000) - expected).max() < 1e-4


@pytest.mark.parametrize("n_mels", [80, 128])
def test_mel_filters_are_openais_to_the_last_bit(n_mels):
    assert np.array_equal(mel_filters("cpu", n_mels), whisper.audio.mel_filters("cpu", n_mels).numpy())


@pytest.mark.parametrize("n_samples", [0, 100, 480_000, 500_000])
def test_padding_and_trimming_are_openais(n_samples):
    samples = np.resize(NOISE, n_samples)
    assert np.array_equal(pad_or_trim(samples), whisper.audio.pad_or_trim(samples))


def test_constants_are_openais():
    names = [name for name in vars(whisper.audio) if name.isupper() and len(name) > 1]
    assert len(names) == 9
    for name in names:
        assert getattr(audio, name) == getattr(whisper.audio, name), name
