"""Recordings to numbers: decoding with PyAV, the constants of Whisper's front end, the log-mel spectrogram.

Decoding gives the samples that WhisperX gets from `ffmpeg -ac 1 -ar 16000 -f s16le`. The spectrogram is OpenAI's
(openai/whisper, `whisper/audio.py`), computed in float32 as there.
"""

import logging
import os
import re
import stat
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.packet import Packet
from av.stream import Discard

from whisperx.errors import AudioError, OptionError
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

MAX_HOURS = 24  # of one recording: 5.5 GB of samples. A forged file of a few kB can claim, and decode to, years

# What FFmpeg may touch. Without these lists a playlist makes it fetch URLs or read other files, and probing runs its
# video decoders, which have had the worst bugs.
_WHITELISTS = {
    "protocol_whitelist": "file,pipe",
    # mov is also mp4, m4a and 3gp; matroska also webm; asf also wma; mp3 also mp2
    "format_whitelist": "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dss,eac3,flac,flv,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,"
    "nistsphere,ogg,tta,w64,wav,wv",
    "codec_whitelist": "aac,aac_fixed,aac_latm,ac3,ac3_fixed,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_swf,"
    "adpcm_yamaha,alac,amrnb,amrwb,ape,dca,dss_sp,eac3,flac,g722,g723_1,g726,g726le,gsm,gsm_ms,ilbc,mlp,mp1,mp1float,"
    "mp2,mp2float,mp3,mp3float,mpc7,mpc8,nellymoser,opus,pcm_alaw,pcm_bluray,pcm_dvd,pcm_f16le,pcm_f24le,pcm_f32be,"
    "pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16be_planar,pcm_s16le,pcm_s16le_planar,pcm_s24be,pcm_s24le,"
    "pcm_s24le_planar,pcm_s32be,pcm_s32le,pcm_s32le_planar,pcm_s64be,pcm_s64le,pcm_s8,pcm_s8_planar,pcm_u16be,"
    "pcm_u16le,pcm_u24be,pcm_u24le,pcm_u32be,pcm_u32le,pcm_u8,s302m,speex,truehd,truespeech,tta,vorbis,wavpack,"
    "wmalossless,wmapro,wmav1,wmav2,wmavoice",
}
_WAV_PACKET = 1 << 13  # bytes at a time: the 4 kB that FFmpeg takes cost more than decoding, and 16 kB to look at first
_RATES = range(1000, 768_001)  # Hz; beyond them a header is damaged or forged

logger = logging.getLogger(__name__)

_T = TypeVar("_T", bound=np.generic)
_FRAMES_PER_BLOCK = 512  # 0.8 MB of windowed frames: they stay in the cache, however long the audio is


def load_audio(file: str | os.PathLike[str], sr: int = SAMPLE_RATE) -> Audio:
    """The sound of a recording as one channel: float32 `(n_samples,)` at `sr` Hz, within [-1, 1].

    Reads wav, mp3, m4a, mp4, mov, flac, ogg, opus, webm, mkv, wma, aiff, amr and more, whatever the file is called; of
    several audio streams the one that FFmpeg calls the best, pictures ignored. The samples pass through 16 bits, as
    they do in WhisperX, so that both see the same numbers. A damaged or cut file gives what can be decoded of it, as
    with the ffmpeg command, and a warning in the log.

    Raises AudioError for anything else: no such file, nothing decodable, a playlist, a URL, more than `MAX_HOURS`
    hours; OptionError for an `sr` outside 1000 to 768000.
    """
    if sr not in _RATES:
        raise OptionError(f"A sample rate lies between {_RATES[0]} and {_RATES[-1]} Hz, not at {sr!r}.")
    name = os.fsdecode(file)
    head = _read_head(name)
    # A bytearray grows in place: no second copy of a long recording is ever held.
    samples = bytearray()
    try:
        with _open(name) as container:
            stream = _choose_stream(container, name)
            for block in _resample(_decode(container, stream, name), sr, name):
                samples += block.data
            seconds = len(samples) / 4 / sr
            promised = _promised_seconds(container, stream, head, seconds)
    # All that PyAV raises for odd files. Most of it is an FFmpegError, some is a plain builtin.
    except (av.FFmpegError, OSError, ValueError, LookupError) as error:
        raise AudioError(f"{name!r} {_describe(head, error)}") from error
    if not samples:
        raise AudioError(
            f"{name!r} has an audio stream, but no sound could be decoded from it: it is empty or damaged."
        )
    if promised - seconds > max(1.0, 0.1 * promised):
        logger.warning("%r may be cut: it promises %.1f s, but only %.1f s were decoded", name, promised, seconds)
    return np.frombuffer(samples, dtype=np.float32)


def resampled(samples: Audio, sr: int) -> Audio:
    """Sound of `sr` samples a second, float32 `(n_samples,)`, at 16 kHz.

    Raises OptionError for an `sr` outside 1000 to 768000.
    """
    if sr not in _RATES:
        raise OptionError(f"A sample rate lies between {_RATES[0]} and {_RATES[-1]} Hz, not at {sr!r}.")
    if sr == SAMPLE_RATE or not samples.size:
        return samples
    frame = AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = sr
    resampler = AudioResampler("fltp", "mono", SAMPLE_RATE)
    blocks = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([block.to_ndarray()[0] for block in blocks])


def _read_head(name: str) -> bytes:
    """The first kilobyte of a file, empty for a pipe, which can be read but once."""
    try:
        status = Path(name).stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{name!r} is a folder: pass the recordings in it.")
        if not stat.S_ISREG(status.st_mode):
            return b""
        with Path(name).open("rb") as file:
            head = file.read(1024)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
            raise AudioError(f"{name!r} is a URL, which is not fetched: download it and pass the file.") from None
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{name!r} cannot be opened: {reason}.") from error
    if not head:
        raise AudioError(f"{name!r} is an empty file.")
    return head


def _open(name: str) -> InputContainer:
    # "file:" keeps names as "concat:a|b" or "-x.wav" from meaning anything. Tags are not worth an error.
    options = _WHITELISTS | {"max_size": str(_WAV_PACKET)}
    return av.open(f"file:{name}", "r", options=options, metadata_errors="replace")


def _choose_stream(container: InputContainer, name: str) -> AudioStream:
    streams = container.streams.audio
    if not streams:
        raise AudioError(f"{name!r} has no audio stream.")
    allowed = _WHITELISTS["codec_whitelist"].split(",")  # which FFmpeg itself obeys only while it probes
    decodable = [stream for stream in streams if stream.codec_context and stream.codec_context.name in allowed]
    if not decodable:
        codecs = {stream.codec_context.name if stream.codec_context else "unknown" for stream in streams}
        raise AudioError(f"{name!r} is encoded in a way that is not read here: {', '.join(sorted(codecs))}.")
    best = container.streams.best("audio")
    chosen = next((stream for stream in decodable if stream is best), decodable[0])
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    return chosen


def _decode(container: InputContainer, stream: AudioStream, name: str) -> Iterator[AudioFrame]:
    """All frames that can be decoded. Damaged packets are skipped, as the ffmpeg command does."""
    n_damaged = 0
    for packet in _read(container, stream, name):
        try:
            yield from stream.codec_context.decode(packet)
        except av.FFmpegError:
            n_damaged += 1
    if n_damaged:
        logger.warning("%r is damaged: %d packets were skipped", name, n_damaged)


def _read(container: InputContainer, stream: AudioStream, name: str) -> Iterator["Packet[AudioStream] | None"]:
    """The packets of a stream, then None, which makes the decoder give what it holds back."""
    try:
        for packet in container.demux(stream):
            if packet.size:  # an empty packet would end the stream for the decoder, wherever it comes
                yield packet
    except av.FFmpegError as error:
        logger.warning("%r cannot be read to its end: %s", name, error.strerror)
    yield None


def _resample(frames: Iterator[AudioFrame], sr: int, name: str) -> Iterator[Audio]:
    """Blocks of samples of one channel at `sr` Hz. The shape of the frames may change on the way."""
    resampler = _new_resampler(sr)
    seconds = 0.0
    for frame in frames:
        if frame.sample_rate not in _RATES:
            raise AudioError(f"{name!r} claims a sample rate of {frame.sample_rate} Hz: it is damaged or forged.")
        seconds += frame.samples / frame.sample_rate
        if seconds > MAX_HOURS * 3600:
            raise AudioError(f"{name!r} is longer than {MAX_HOURS} hours: cut it into shorter files.")
        try:
            blocks = resampler.resample(frame)
        except ValueError:  # not of the shape of the frames before
            blocks = resampler.resample(None)
            resampler = _new_resampler(sr)
            blocks += resampler.resample(frame)
        yield from map(_to_float, blocks)
    yield from map(_to_float, resampler.resample(None))


def _new_resampler(sr: int) -> AudioResampler:
    return AudioResampler("s16", "mono", sr, frame_size=sr)  # blocks of 1 s: small ones cost more than decoding does


def _to_float(block: AudioFrame) -> Audio:
    samples: Audio = np.multiply(block.to_ndarray()[0], 1 / 32768, dtype=np.float32)  # from int16
    return samples


def _promised_seconds(container: InputContainer, stream: AudioStream, head: bytes, decoded_seconds: float) -> float:
    """How long the stream should be by its header, 0 where that says nothing."""
    if container.format.name == "aac":
        return 0.0  # has no header: FFmpeg guesses from the first frames
    if head.startswith(b"RIFF"):  # FFmpeg believes the file's size instead
        n_bytes = int.from_bytes(head[4:8], "little")  # huge in files that were written to a pipe
        return decoded_seconds * n_bytes / container.size if n_bytes < 0x7FFF0000 else 0.0
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base
    return 0.0


def _describe(head: bytes, error: Exception) -> str:
    """What a file that FFmpeg refuses seems to be, from its beginning."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"#extm3u", b"ffconcat", b"[playlist]", b"v=0")) or b"<mpd" in text:
        return "is a playlist, which may name any file or address and is not followed: pass the recordings themselves."
    if text and not re.search(rb"[\x00-\x08\x0e-\x1f]", text):
        return "is a text file."
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")):
        return "is a picture."
    if isinstance(error, av.ArgumentError):  # so FFmpeg answers where a whitelist forbids what it has found
        return "is in no format that is read here."
    reason = getattr(error, "strerror", None) or error
    return f"is damaged, or not in a format that is read here: {reason}."


def as_samples(audio: object) -> Audio:
    """The samples of a recording, float32 `(n_samples,)`, from its path, an array, a list or a torch tensor.

    Raises AudioError for a recording that cannot be read, for more than one channel, and for values that are not
    finite numbers.
    """
    if isinstance(audio, str | os.PathLike):
        return load_audio(audio)
    try:
        samples = np.asarray(_without_torch(audio), np.float32)
    except (TypeError, ValueError) as error:
        raise AudioError(f"a path or an array of samples was expected, not {type(audio).__name__}") from error
    if samples.ndim == 2 and samples.shape[0] == 1:  # (channels, samples), as torchaudio and WhisperX's VADs have it
        samples = samples[0]
    if samples.ndim != 1:
        raise AudioError(f"an array must be mono, of shape (n_samples,), not {samples.shape}")
    if samples.size and not np.isfinite([samples.min(), samples.max()]).all():  # a NaN would be both
        raise AudioError("the array holds values that are not finite numbers")
    return samples


def _without_torch(array: object) -> Any:
    """The NumPy array of a torch tensor, on whichever device it is; anything else as it is. Torch is not imported: who
    has a tensor has done so."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return array.detach().cpu().numpy()
    return array


def pad_or_trim(array: npt.NDArray[_T], length: int = N_SAMPLES, *, axis: int = -1) -> npt.NDArray[_T]:
    """`array` with exactly `length` entries along `axis`: the end cut off, or zeros added at the end.

    A torch tensor comes back as one, on its device.
    """
    plain = _without_torch(array)
    if plain is not array:
        tensor: Any = array
        return sys.modules["torch"].from_numpy(_padded(plain, length, axis).copy()).to(tensor.device)  # type: ignore[no-any-return]
    return _padded(array, length, axis)


def _padded(array: npt.NDArray[_T], length: int, axis: int) -> npt.NDArray[_T]:
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
    audio: Audio | str | os.PathLike[str], n_mels: int = 80, padding: int = 0, device: object = None
) -> npt.NDArray[np.float32]:
    """Whisper's input: float32 `(n_mels, n_frames)`, a frame each 10 ms, within [-1.5, 1.5] or so.

    audio : float32 `(n_samples,)` at 16 kHz, more than 200 samples, or a recording for `load_audio`
    n_mels : 80, or 128 for large-v3 and its kin
    padding : zero samples added at the end
    device : ignored, there because WhisperX has it: the result is a NumPy array

    Frames are centred (the signal is mirrored at both ends), the last one is dropped, and everything quieter than 80 dB
    below the loudest band of this very array is raised to that level. So the values depend on what is passed together:
    pass one chunk at a time, padded to 30 s.

    Raises OptionError for another number of bands, or for an array that is too short or not one-dimensional.
    """
    samples = (
        load_audio(audio)
        if isinstance(audio, str | os.PathLike)
        else np.asarray(_without_torch(audio), dtype=np.float32)
    )
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
