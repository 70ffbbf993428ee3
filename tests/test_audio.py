import numpy as np
import pytest

from whisperx import audio
from whisperx.audio import log_mel_spectrogram, mel_filters, pad_or_trim
from whisperx.errors import OptionError

NOISE = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)


def test_constants_are_those_of_whisper():
    names = (
        "SAMPLE_RATE N_FFT HOP_LENGTH CHUNK_LENGTH N_SAMPLES N_FRAMES N_SAMPLES_PER_TOKEN "
        "FRAMES_PER_SECOND TOKENS_PER_SECOND"
    )
    values = [getattr(audio, name) for name in names.split()]
    assert values == [16000, 400, 160, 30, 480000, 3000, 320, 100, 50]


@pytest.mark.parametrize(
    ("shape", "length", "axis", "expected"),
    [
        ((5,), 3, -1, (3,)),
        ((5,), 5, -1, (5,)),
        ((5,), 8, -1, (8,)),
        ((0,), 2, -1, (2,)),
        ((2, 5), 3, -1, (2, 3)),
        ((2, 5), 3, 0, (3, 5)),
        ((4, 5), 3, 0, (3, 5)),
        ((4, 5), 8, 1, (4, 8)),
    ],
)
def test_padding_and_trimming_give_the_length_asked_for(shape, length, axis, expected):
    array = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    result = pad_or_trim(array, length, axis=axis)
    kept = tuple(slice(min(a, b)) for a, b in zip(shape, expected, strict=True))
    assert result.shape == expected
    assert result.dtype == array.dtype
    assert np.array_equal(result[kept], array[kept])
    assert result.sum() == array[kept].sum()  # what was added is zero


def test_padding_goes_to_thirty_seconds_by_default():
    assert pad_or_trim(NOISE).shape == (480_000,)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_each_mel_filter_has_the_area_of_slaneys(n_mels):
    filters = mel_filters("cpu", n_mels)
    assert filters.shape == (n_mels, 201)
    assert filters.dtype == np.float32
    wide = filters[-20:]  # triangles of many bins, so that the sum over bins is near the integral, which is 1
    assert np.allclose(wide.sum(axis=1) * 40, 1, atol=0.02)


def test_mel_filters_cannot_be_spoiled_by_a_caller():
    with pytest.raises(ValueError, match="read-only"):
        mel_filters("cpu", 80)[0] = 0


@pytest.mark.parametrize("n_mels", [0, 40, 81])
def test_other_numbers_of_mel_bands_are_refused(n_mels):
    with pytest.raises(OptionError, match=f"80 or 128.*{n_mels}"):
        mel_filters("cpu", n_mels)
    with pytest.raises(OptionError, match=f"80 or 128.*{n_mels}"):
        log_mel_spectrogram(NOISE, n_mels)


def log_mel_by_definition(samples, n_mels):
    """One frame and one frequency at a time, in float64."""
    padded = np.pad(samples.astype(np.float64), 200, mode="reflect")
    n = np.arange(400)
    hann = np.sin(np.pi * n / 400) ** 2
    waves = np.exp(-2j * np.pi * np.outer(np.arange(201), n) / 400)
    frames = [padded[start : start + 400] * hann for start in range(0, len(samples) - len(samples) % 160, 160)]
    mel = np.stack([mel_filters("cpu", n_mels) @ np.abs(waves @ frame) ** 2 for frame in frames], axis=1)
    log_mel = np.log10(np.maximum(mel, 1e-10))
    return (np.maximum(log_mel, log_mel.max() - 8) + 4) / 4


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize(
    "samples",
    [
        NOISE,
        NOISE[:201],
        NOISE[:1000],
        np.zeros(3200, np.float32),
        np.pad(NOISE[:5000], (3000, 7000)),
        np.pad(NOISE[:1], (3000, 1000)),
        np.sin(np.arange(16_000, dtype=np.float32)),
    ],
    ids=["noise", "201 samples", "1000 samples", "silence", "silence around", "click", "tone"],
)
def test_log_mel_follows_its_definition(samples, n_mels):
    result = log_mel_spectrogram(samples, n_mels)
    assert result.dtype == np.float32
    assert result.shape == (n_mels, len(samples) // 160)
    assert np.abs(result - log_mel_by_definition(samples, n_mels)).max() < 1e-4


def test_log_mel_pads_with_silence():
    assert np.array_equal(log_mel_spectrogram(NOISE, padding=1600), log_mel_spectrogram(np.pad(NOISE, (0, 1600))))


def test_log_mel_of_a_chunk_has_3000_frames():
    assert log_mel_spectrogram(pad_or_trim(NOISE), 128).shape == (128, 3000)


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(200), np.zeros((2, 16_000))], ids=["0", "200", "stereo"])
def test_log_mel_refuses_what_is_no_recording(samples):
    with pytest.raises(OptionError, match="one channel of more than 200 samples"):
        log_mel_spectrogram(samples)
