"""Sound to numbers: the constants of Whisper's front end and the log-mel spectrogram. NumPy only.

The spectrogram is OpenAI's (openai/whisper, `whisper/audio.py`), computed in float32 as there.
"""

from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from whisperx.errors import OptionError
from whisperx.schema import Audio

SAMPLE_RATE = 16000
N_FFT = 400  # 25 ms
HOP_LENGTH = 160  # 10 ms
CHUNK_LENGTH = 30  # seconds
N_SAMPLES = CHUNK_LENGTH * SAMPLE_RATE  # 480000 in a chunk
N_FRAMES = N_SAMPLES // HOP_LENGTH  # 3000 mel frames in a chunk
N_SAMPLES_PER_TOKEN = HOP_LENGTH * 2  # 320, since the encoder's second convolution has stride 2
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH  # 100 mel frames
TOKENS_PER_SECOND = SAMPLE_RATE // N_SAMPLES_PER_TOKEN  # 50 positions of the encoder

_T = TypeVar("_T", bound=np.generic)
_FRAMES_PER_BLOCK = 512  # of 0.8 MB: a block stays in the cache, and an hour of audio needs no more memory than a chunk


def pad_or_trim(array: npt.NDArray[_T], length: int = N_SAMPLES, *, axis: int = -1) -> npt.NDArray[_T]:
    """`array` with exactly `length` entries along `axis`: the end cut off, or zeros added at the end."""
    array = np.moveaxis(array, axis, -1)[..., :length]
    missing = length - array.shape[-1]
    if missing > 0:
        array = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])
    return np.moveaxis(array, -1, axis)


def mel_filters(device: object, n_mels: int) -> npt.NDArray[np.float32]:
    """The filters that gather 201 frequency bins into `n_mels` bands: float32 `(n_mels, N_FFT // 2 + 1)`, read-only.

    Triangles on the mel scale of Slaney's Auditory Toolbox (1998), of equal area, as librosa makes them. `device` is
    there because WhisperX has it; the filters are a NumPy array whatever it says.

    Raises OptionError unless `n_mels` is 80 or 128: no Whisper has another number.
    """
    return _slaney_filters(n_mels)


@cache
def _slaney_filters(n_mels: int) -> npt.NDArray[np.float32]:
    if n_mels not in (80, 128):
        raise OptionError(f"n_mels is 80 or 128 in every Whisper model, not {n_mels!r}.")
    edges = _mel_to_hz(np.linspace(0, _hz_to_mel(SAMPLE_RATE / 2), n_mels + 2))
    bins = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]  # (n_mels, 201)
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    filters *= (2 / (edges[2:] - edges[:-2]))[:, None]
    filters.flags.writeable = False  # shared by all callers
    return filters


# Slaney's mel scale: linear up to 1000 Hz (mel 15), above that 27 mel for each factor of 6.4 in frequency.


def _hz_to_mel(frequency: float) -> float:
    return float(15 + np.log(frequency / 1000) * 27 / np.log(6.4)) if frequency >= 1000 else frequency * 3 / 200


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel >= 15, 1000 * np.exp((mel - 15) * np.log(6.4) / 27), mel * 200 / 3)


@cache
def _window() -> npt.NDArray[np.float32]:
    """Periodic Hann window."""
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)


def log_mel_spectrogram(
    audio: Audio, n_mels: int = 80, padding: int = 0, device: object = None
) -> npt.NDArray[np.float32]:
    """Whisper's input: float32 `(n_mels, n_frames)`, a frame each 10 ms, within [-1.5, 1.5] or so.

    audio : float32 `(n_samples,)` at 16 kHz, more than 200 samples
    n_mels : 80, or 128 for large-v3 and its kin
    padding : zero samples added at the end
    device : ignored, there because WhisperX has it: the result is a NumPy array

    Frames are centred (the signal is mirrored at both ends), the last one is dropped, and everything quieter than 80 dB
    below the loudest band of this very array is raised to that level. So the values depend on what is passed together:
    pass one chunk at a time, padded to 30 s.

    Raises OptionError for another number of bands, or for an array that is too short or not one-dimensional.
    """
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1 or samples.size + padding <= N_FFT // 2:
        raise OptionError(
            f"The spectrogram is made of one channel of more than {N_FFT // 2} samples, not of shape {samples.shape}."
        )
    samples = np.pad(np.pad(samples, (0, padding)), N_FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(samples, N_FFT)[::HOP_LENGTH][:-1]  # (n_frames, 400)
    filters = _slaney_filters(n_mels).T

    # A chunk often ends in zeros, whose power is zero: those frames cost nothing.
    n_sounding = int(np.max(np.flatnonzero(samples), initial=-1)) // HOP_LENGTH + 1
    mel = np.zeros((len(frames), n_mels), dtype=np.float32)
    for start in range(0, min(n_sounding, len(frames)), _FRAMES_PER_BLOCK):
        block = slice(start, start + _FRAMES_PER_BLOCK)
        spectrum = np.fft.rfft(frames[block] * _window())  # (n_block, 201) complex64
        mel[block] = (spectrum.real**2 + spectrum.imag**2) @ filters

    log_mel = np.log10(np.maximum(mel, 1e-10))
    log_mel = np.maximum(log_mel, log_mel.max() - 8)
    return np.ascontiguousarray((log_mel.T + 4) / 4)
