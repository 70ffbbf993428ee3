import logging
import os
import re
import struct
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from whisperx import audio
from whisperx.audio import load_audio, log_mel_spectrogram, mel_filters, pad_or_trim
from whisperx.errors import AudioError, OptionError

NOISE = np.random.default_rng(0).normal(0, 0.1, 90_000).astype(np.float32)


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
    """With a Fourier transform written out, in float64."""
    padded = np.pad(samples.astype(np.float64), 200, mode="reflect")
    frames = np.stack([padded[160 * i : 160 * i + 400] for i in range(len(samples) // 160)], axis=1)
    n = np.arange(400)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(201), n) / 400) * np.sin(np.pi * n / 400) ** 2
    mel = mel_filters("cpu", n_mels) @ np.abs(waves @ frames) ** 2
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
        np.pad(NOISE[:1], (81_870, 5000)),  # the last frame with a sound is the first of a block
        np.sin(np.arange(16_000, dtype=np.float32)),
    ],
    ids=["noise", "201 samples", "1000 samples", "silence", "silence around", "click", "late click", "tone"],
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


def test_log_mel_reads_a_recording_itself(tmp_path):
    path = record(tmp_path / "a.wav", "pcm_s16le")
    assert np.array_equal(log_mel_spectrogram(str(path)), log_mel_spectrogram(load_audio(path)))


# Recordings made here: a tone and a sweep, the same sound whatever the rate, in every container that PyAV writes.

SECONDS = 1.5
BIT_RATES = {"libopencore_amrnb": 12_200, "wmav2": 128_000}  # of the encoders that have no usable default


def tune(rate, seconds=SECONDS, tone_hz=440):
    t = np.arange(round(rate * seconds)) / rate
    fade = np.minimum(1, np.minimum(t, seconds - t) / 0.05)
    sweep = np.sin(2 * np.pi * (200 * t + 500 * t**2))
    return (fade * (0.3 * np.sin(2 * np.pi * tone_hz * t) + 0.3 * sweep)).astype(np.float32)


def record(path, codec, rate=16_000, layout="mono", *, samples=None, video=None, **settings):
    """Write `samples`, a row for each channel or the same for all, to a new file."""
    with av.open(str(path), "w", **settings) as container:
        if video:
            pictures = container.add_stream(video, rate=25, width=64, height=64, pix_fmt="yuv420p")
        stream = container.add_stream(codec, rate=rate, layout=layout, options={"strict": "experimental"})
        if codec in BIT_RATES:
            stream.bit_rate = BIT_RATES[codec]
        if video:
            for brightness in range(0, 250, 10):
                picture = np.full((64, 64, 3), brightness, np.uint8)
                container.mux(pictures.encode(av.VideoFrame.from_ndarray(picture)))
            container.mux(pictures.encode(None))
        channels = np.atleast_2d(tune(rate) if samples is None else samples)
        channels = np.broadcast_to(channels, (av.AudioLayout(layout).nb_channels, channels.shape[1]))
        for start in range(0, channels.shape[1], 1024):
            block = np.ascontiguousarray(channels[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate = rate
            frame.pts = start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def similarity(heard, expected, max_lag=0):
    """Correlation at the best lag up to `max_lag` samples."""
    assert abs(len(heard) - len(expected)) <= 0.05 * 16_000
    n = min(len(heard), len(expected)) - max_lag
    return max(np.corrcoef(heard[lag : lag + n], expected[:n])[0, 1] for lag in range(max_lag + 1))


@pytest.mark.parametrize(
    ("file", "codec", "rate", "layout", "video"),
    [
        ("a.wav", "pcm_s16le", 16_000, "mono", None),
        ("a.wav", "pcm_s16le", 8_000, "mono", None),
        ("a.wav", "pcm_f32le", 96_000, "stereo", None),
        ("a.wav", "pcm_s24le", 22_050, "stereo", None),
        ("a.wav", "pcm_mulaw", 8_000, "mono", None),
        ("a.wav", "pcm_u8", 16_000, "mono", None),
        ("a.wav", "adpcm_ima_wav", 44_100, "mono", None),
        ("a.flac", "flac", 44_100, "stereo", None),
        ("a.flac", "flac", 96_000, "mono", None),
        ("a.flac", "flac", 48_000, "5.1", None),
        ("a.mp3", "libmp3lame", 44_100, "stereo", None),
        ("a.mp3", "libmp3lame", 8_000, "mono", None),
        ("a.m4a", "aac", 44_100, "mono", None),
        ("a.m4a", "aac", 48_000, "stereo", None),
        ("a.m4a", "alac", 44_100, "stereo", None),
        ("a.ogg", "libopus", 48_000, "mono", None),
        ("a.ogg", "vorbis", 44_100, "stereo", None),
        ("a.opus", "libopus", 48_000, "stereo", None),
        ("a.webm", "libopus", 48_000, "stereo", None),
        ("a.webm", "libopus", 48_000, "mono", "libvpx"),
        ("a.mp4", "aac", 48_000, "stereo", None),
        ("a.mp4", "aac", 48_000, "stereo", "mpeg4"),
        ("a.mov", "pcm_s16le", 48_000, "stereo", "mpeg4"),
        ("a.mkv", "vorbis", 44_100, "stereo", "mpeg4"),
        ("a.mkv", "flac", 48_000, "mono", None),
        ("a.mkv", "pcm_s24le", 96_000, "mono", None),
        ("a.aiff", "pcm_s16be", 44_100, "stereo", None),
        ("a.caf", "pcm_s16be", 44_100, "mono", None),
        ("a.au", "pcm_s16be", 44_100, "mono", None),
        ("a.w64", "pcm_s16le", 44_100, "mono", None),
        ("a.wv", "wavpack", 44_100, "stereo", None),
        ("a.tta", "tta", 44_100, "stereo", None),
    ],
)
def test_every_container_gives_the_sound_that_was_recorded(tmp_path, file, codec, rate, layout, video):
    heard = load_audio(record(tmp_path / file, codec, rate, layout, video=video))
    assert heard.dtype == np.float32
    assert heard.ndim == 1
    assert heard.flags.writeable
    assert np.abs(heard).max() <= 1
    assert similarity(heard, tune(16_000)) > 0.995


@pytest.mark.parametrize(
    ("file", "codec", "rate", "layout", "least"),
    [
        ("a.aac", "aac", 44_100, "mono", 0.98),
        ("a.ts", "mp2", 48_000, "stereo", 0.98),
        ("a.avi", "libmp3lame", 44_100, "stereo", 0.98),
        ("a.flv", "aac", 44_100, "stereo", 0.98),
        ("a.ac3", "ac3", 48_000, "stereo", 0.98),
        ("a.amr", "libopencore_amrnb", 8_000, "mono", 0.9),
        ("a.wma", "wmav2", 44_100, "stereo", 0.98),
    ],
)
def test_containers_that_do_not_tell_the_codecs_delay_are_late_by_it(tmp_path, file, codec, rate, layout, least):
    # wmav2 loses its first frame instead, so that everything comes early
    heard = load_audio(record(tmp_path / file, codec, rate, layout))
    expected = tune(16_000)
    if codec == "wmav2":
        heard, expected = expected, heard
    assert similarity(heard, expected, max_lag=800) > least


@pytest.mark.parametrize("sr", [8_000, 16_000, 22_050, 48_000])
def test_any_sample_rate_can_be_asked_for(tmp_path, sr):
    heard = load_audio(record(tmp_path / "a.wav", "pcm_s16le", 44_100), sr)
    assert len(heard) == pytest.approx(sr * SECONDS, abs=1)
    assert np.corrcoef(heard, tune(sr)[: len(heard)])[0, 1] > 0.999


@pytest.mark.parametrize("sr", [8000, 16000, 22050, 44100, 48000])
def test_sound_in_memory_is_resampled_to_16_khz(sr):
    tone = np.sin(2 * np.pi * 440 * np.arange(sr) / sr).astype(np.float32)
    found = audio.resampled(tone, sr)
    assert (found.dtype, len(found)) == (np.float32, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(found[100:-100], expected[100:-100], atol=2e-3)


def test_sound_in_memory_of_impossible_rates_is_refused():
    with pytest.raises(OptionError, match="between 1000 and 768000 Hz, not at 0"):
        audio.resampled(np.zeros(5, np.float32), 0)
    assert audio.resampled(np.zeros(0, np.float32), 8000).size == 0


@pytest.mark.parametrize("sr", [0, -16_000, 999, 10**6, None, 16_000.5])
def test_impossible_sample_rates_are_refused(tmp_path, sr):
    with pytest.raises(OptionError, match="between 1000 and 768000"):
        load_audio(record(tmp_path / "a.wav", "pcm_s16le"), sr)


def test_16_bit_samples_arrive_unchanged(tmp_path):
    values = np.array([0, 1, -1, 1000, 32767, -32768] * 100, np.int16)
    path = tmp_path / "a.wav"
    path.write_bytes(wav(values.tobytes()))
    assert np.array_equal(load_audio(path), values / np.float32(32768))


def test_channels_are_mixed_evenly(tmp_path):
    left, right = tune(16_000, tone_hz=440), tune(16_000, tone_hz=3000)
    heard = load_audio(record(tmp_path / "a.wav", "pcm_s16le", layout="stereo", samples=np.stack([left, right])))
    assert np.allclose(heard, (left + right) / 2, atol=1e-4)


def test_a_recording_may_change_its_rate_and_channels_on_the_way(tmp_path):
    # mp3 frames stand alone, so that files can be joined
    first = record(tmp_path / "1.mp3", "libmp3lame", 44_100, "stereo")
    second = record(tmp_path / "2.mp3", "libmp3lame", 22_050, "mono")
    both = tmp_path / "both.mp3"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    assert len(load_audio(both)) / 16_000 == pytest.approx(2 * SECONDS, abs=0.2)


def test_memory_holds_the_samples_and_little_else(tmp_path):
    minutes = np.tile(tune(8_000), 160)
    path = record(tmp_path / "a.flac", "flac", 8_000, samples=minutes)
    tracemalloc.start()
    try:
        heard = load_audio(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(heard) == 2 * len(minutes)
    assert peak < 1.3 * heard.nbytes


def test_the_default_one_of_several_audio_streams_is_read(tmp_path):
    for default in (0, 1):
        path = tmp_path / f"{default}.mkv"
        with av.open(str(path), "w") as container:
            streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
            streams[default].disposition = av.stream.Disposition.default
            for stream, hz in zip(streams, (440, 3000), strict=True):
                samples = (tune(16_000, tone_hz=hz) * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
                frame.sample_rate = 16_000
                container.mux(stream.encode(frame))
        assert similarity(load_audio(path), tune(16_000, tone_hz=(440, 3000)[default])) > 0.999


NAMES = [
    "-x.wav", "concat:a.wav|b.wav", "http:x.wav", "pipe:0", "file:x.wav", "two words.wav", "line\nbreak.wav",
    "🎙️ café.wav", "%d.wav", "x.m3u8", "x.txt", "no extension", b"\xff\xfe.wav",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_file_may_have_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(os.fsdecode(name)).write_bytes(record(tmp_path / "a.wav", "pcm_s16le").read_bytes())
    assert similarity(load_audio(name), tune(16_000)) > 0.999


def test_tags_in_another_encoding_do_no_harm(tmp_path):
    path = tmp_path / "a.wav"
    title = b"caf\xe9\0\0\0\0"
    tags = b"INFO" + b"INAM" + struct.pack("<I", len(title)) + title
    path.write_bytes(wav(np.zeros(1600, np.int16).tobytes(), b"LIST" + struct.pack("<I", len(tags)) + tags))
    assert len(load_audio(path)) == 1600


def test_a_pipe_can_be_read(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = wav(np.arange(1600, dtype=np.int16).tobytes())
    writer = threading.Thread(target=lambda: path.write_bytes(content))
    writer.start()
    try:
        assert len(load_audio(path)) == 1600
    finally:
        writer.join()


# Input that is not a recording, or not a whole one.


def wav(samples, before=b"", *, codec=1, n_channels=1, rate=16_000, bits=16):
    """A wav file by hand, headers as wrong as asked for."""
    block = n_channels * bits // 8
    header = struct.pack("<HHIIHH", codec, n_channels, rate, rate * block % 2**32, block, bits)
    chunks = b"fmt " + struct.pack("<I", len(header)) + header + before
    chunks += b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def video_without_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        container.mux(stream.encode(av.VideoFrame(64, 64)))
        container.mux(stream.encode(None))
    return path


def picture(path, codec):
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream(
            codec, rate=1, width=64, height=64, pix_fmt={"mjpeg": "yuvj420p"}.get(codec, "rgb24")
        )
        container.mux(stream.encode(av.VideoFrame(64, 64, stream.pix_fmt)))
        container.mux(stream.encode(None))
    return path.read_bytes()


PLAYLIST = "is a playlist, which may name any file or address"
BROKEN = "is damaged, or not in a format that is read here"
NO_SOUND = "has an audio stream, but no sound could be decoded"

CONTENTS = {
    "nothing": (b"", "is an empty file"),
    "text": (b"Ladies and gentlemen,\n", "is a text file"),
    "text that begins as a bitmap does": (b"BMW\n", "is a text file"),
    "text with a byte order mark": ("\ufeffGrüße\n".encode(), "is a text file"),
    "subtitles": (b"1\n00:00:01,000 --> 00:00:02,000\nHello\n", "is a text file"),
    "json": (b'{"segments": []}', "is a text file"),
    "web page": (b"<!doctype html><html><body>Sign in to download</body></html>", "is a text file"),
    "m3u8": (b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nx.ts\n#EXT-X-ENDLIST\n", PLAYLIST),
    "m3u": (b"\xef\xbb\xbf#EXTM3U\nx.mp3\n", PLAYLIST),
    "pls": (b"[playlist]\nFile1=x.mp3\n", PLAYLIST),
    "ffconcat": (b"ffconcat version 1.0\nfile x.wav\n", PLAYLIST),
    "sdp": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n", PLAYLIST),
    "dash": (b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>', PLAYLIST),
    "gif": (b"GIF89a\x01\0\x01\0\0\0\0;", "is a picture"),
    "zip": (b"PK\x03\x04" + bytes(range(256)), BROKEN),
    "zeros": (bytes(5000), BROKEN),
    "noise": (np.random.default_rng(0).bytes(5000), BROKEN),
    "wav without samples": (wav(b""), NO_SOUND),
    "wav cut in its header": (wav(b"")[:20], BROKEN),
    "wav without channels": (wav(bytes(100), n_channels=0), "damaged|no sound|not read here"),
    "wav of an unknown codec": (wav(bytes(100), codec=0x1234), "is encoded in a way that is not read here: unknown"),
    "wav of a codec not allowed": (wav(bytes(100), codec=0x0270), "is encoded in a way that is not read here: atrac3"),
    "wav at 2 GHz": (wav(bytes(10_000), rate=2**31 - 1), "claims a sample rate of 2147483647 Hz"),
    "wav at 1 Hz": (wav(bytes(7200), rate=1), "claims a sample rate of 1 Hz"),
    "mp4 without its index": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\x10\0mdat" + bytes(4000), BROKEN),
    "format not allowed": (b"Creative Voice File\x1a\x1a\0\x0a\x01\x29\x11" + bytes(500), "is in no format that"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".m3u8", ""])
@pytest.mark.parametrize(("content", "message"), CONTENTS.values(), ids=CONTENTS)
def test_what_is_no_recording_is_an_error_that_says_why(tmp_path, capfd, content, message, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=message) as raised:
        load_audio(path)
    assert str(raised.value).startswith(f"Failed to load audio: {str(path)!r} ")
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, RuntimeError)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("codec", ["png", "mjpeg"])
def test_a_picture_is_called_a_picture(tmp_path, codec):
    path = tmp_path / "x.mp3"
    path.write_bytes(picture(tmp_path / "picture.jpg", codec))
    with pytest.raises(AudioError, match="is a picture"):
        load_audio(path)


def test_a_video_without_sound_has_no_audio_stream(tmp_path):
    with pytest.raises(AudioError, match="has no audio stream"):
        load_audio(video_without_sound(tmp_path / "x.mp4"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.wav", "cannot be opened: No such file or directory"),
        ("missing\n.wav", r"'missing\\n.wav' cannot be opened: No such file"),
        ("a.wav/b.wav", "cannot be opened: Not a directory"),
        ("nul\0.wav", "cannot be opened: embedded null"),
        ("x" * 300, "cannot be opened: File name too long"),
        ("folder", "is a folder: pass the recordings in it"),
        ("concat:a.wav|a.wav", "cannot be opened: No such file"),
        ("subfile,,start,0,end,0,,:a.wav", "cannot be opened: No such file"),
        ("data:audio/wav;base64,UklGRg==", "cannot be opened: No such file"),
        ("http://127.0.0.1/a.wav", "is a URL, which is not fetched"),
        ("HTTPS://127.0.0.1/a.wav", "is a URL, which is not fetched"),
        ("rtsp://127.0.0.1/a", "is a URL, which is not fetched"),
        ("file:///a.wav", "is a URL, which is not fetched"),
    ],
)
def test_what_is_no_file_is_an_error_that_says_why(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "a.wav", "pcm_s16le")
    (tmp_path / "folder").mkdir()
    with pytest.raises(AudioError, match=message) as raised:
        load_audio(name)
    assert "\n" not in str(raised.value)


def test_a_file_that_may_not_be_read_is_an_error(tmp_path):
    path = record(tmp_path / "a.wav", "pcm_s16le")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(AudioError, match="cannot be opened: Permission denied"):
        load_audio(path)


def test_a_recording_that_is_too_long_is_refused(tmp_path, monkeypatch):
    path = record(tmp_path / "a.wav", "pcm_s16le")
    monkeypatch.setattr(audio, "MAX_HOURS", SECONDS / 3600 * 1.1)
    load_audio(path)
    monkeypatch.setattr(audio, "MAX_HOURS", SECONDS / 3600 * 0.9)
    with pytest.raises(AudioError, match=r"is longer than .* hours: cut it"):
        load_audio(path)


@pytest.mark.parametrize(
    ("file", "codec"),
    [
        ("a.wav", "pcm_s16le"),
        ("a.mp3", "libmp3lame"),
        ("a.flac", "flac"),
        ("a.mkv", "pcm_s16le"),
        ("a.aiff", "pcm_s16be"),
    ],
)
def test_half_a_file_is_decoded_with_a_warning(tmp_path, caplog, file, codec):
    samples = np.tile(tune(16_000), 4)
    path = record(tmp_path / file, codec, samples=samples)
    whole = load_audio(path)
    assert not caplog.records
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    half = load_audio(path)
    assert 0.35 < len(half) / len(whole) < 0.65
    assert np.allclose(half[:16_000], whole[:16_000], atol=1e-3)
    promised, decoded = re.search(r"it promises (\S+) s, but only (\S+) s were decoded", caplog.text).groups()
    assert float(promised) == pytest.approx(len(whole) / 16_000, abs=0.2)
    assert float(decoded) == pytest.approx(len(half) / 16_000, abs=0.06)


def test_a_file_that_ends_within_a_block_is_decoded_with_a_warning(tmp_path, caplog):
    path = record(tmp_path / "a.wv", "wavpack", samples=np.tile(tune(16_000), 12))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert len(load_audio(path)) > 16_000
    assert "cannot be read to its end: Invalid data" in caplog.text


def test_damage_within_a_file_costs_only_what_is_damaged(tmp_path, caplog):
    path = record(tmp_path / "a.mp3", "libmp3lame", samples=np.tile(tune(16_000), 4))
    content = bytearray(path.read_bytes())
    whole = load_audio(path)
    middle = len(content) // 2
    content[middle : middle + 1000] = np.random.default_rng(0).bytes(1000)
    path.write_bytes(content)
    damaged = load_audio(path)
    assert len(damaged) == pytest.approx(len(whole), abs=8000)
    assert np.array_equal(damaged[:16_000], whole[:16_000])
    assert re.search(r"is damaged: \d+ packets were skipped", caplog.text)


@pytest.mark.parametrize("size", [0x7FFFF024, 0xFFFFFFFF, 0])
def test_a_wav_that_was_written_to_a_pipe_is_not_called_cut(tmp_path, caplog, size):
    content = wav(np.zeros(48_000, np.int16).tobytes())
    path = tmp_path / "a.wav"
    path.write_bytes(content[:4] + struct.pack("<I", size) + content[8:40] + struct.pack("<I", size) + content[44:])
    assert len(load_audio(path)) == 48_000
    assert not caplog.records


def test_a_guessed_duration_is_no_promise(tmp_path, caplog):
    quiet_then_loud = np.concatenate([np.zeros(160_000), np.random.default_rng(0).normal(0, 0.2, 80_000)])
    path = record(tmp_path / "a.aac", "aac", samples=quiet_then_loud.astype(np.float32))
    with av.open(str(path)) as container:
        assert container.duration / av.time_base > 60  # what FFmpeg guesses for these 15 s
    assert len(load_audio(path)) / 16_000 == pytest.approx(15, abs=0.2)
    assert not caplog.records


@pytest.fixture
def web_server(tmp_path):
    """Where it can be reached, and the requests that it got."""
    requests = []
    content = record(tmp_path / "served.ts", "mp2", 48_000).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["x.m3u8", "x.m3u", "x.mp3", "x.wav", "x.txt"])
def test_a_playlist_cannot_make_us_fetch_an_address_or_read_another_file(tmp_path, web_server, name):
    address, requests = web_server
    secret = record(tmp_path / "secret.wav", "pcm_s16le")
    stream = record(tmp_path / "secret.ts", "mp2", 48_000)
    start = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.5,\n"
    playlists = [
        *(
            f"{start}{target}\n#EXT-X-ENDLIST\n"
            for target in (f"{address}/x.ts", stream, "secret.ts", f"file:{stream}")
        ),
        *(f"ffconcat version 1.0\nfile '{target}'\n" for target in (f"{address}/x.wav", secret.name, secret)),
    ]
    for playlist in playlists:
        (tmp_path / name).write_text(playlist)
        with pytest.raises(AudioError, match=PLAYLIST):
            load_audio(tmp_path / name)
    assert requests == []


# Recordings of others.


def recordings(shared):
    """Every file that may be a recording, with the seconds that the manifest states, None where it states no number."""
    folder = shared / "audio"
    seconds = {}
    for line in (folder / "MANIFEST.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) > 2 and re.fullmatch(r"\d+\.\d+", cells[1]):
            seconds[cells[0].strip("| ")] = float(cells[1])
    not_audio = {".csv", ".json", ".jsonl", ".lab", ".md", ".rttm", ".segments", ".textgrid", ".tsv", ".txt", ".uem"}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() not in not_audio:
            yield path, seconds.get(str(path.relative_to(folder)))


@pytest.mark.shared
def test_every_recording_loads_or_is_refused_with_an_audio_error(shared, caplog):
    caplog.set_level(logging.CRITICAL, "whisperx.audio")
    wrong, n_timed = [], 0
    for path, seconds in recordings(shared):
        try:
            heard = len(load_audio(path)) / 16_000
        except AudioError as error:
            heard = 0.0
            if "robustness" not in path.parts:
                wrong.append(str(error))
        if seconds is not None:
            n_timed += 1
            if abs(heard - seconds) > 0.06:
                wrong.append(f"{path}: {heard} s, not {seconds} s")
    assert wrong == []
    assert n_timed > 100
