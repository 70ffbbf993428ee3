"""The whole way with the model that comes with the project: a recording in, files out."""

import itertools
import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import av
import jiwer
import numpy as np
import pytest

from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.cli import main

ROOT = Path(__file__).parents[1]
HIGHEST_ERROR_RATE = 0.05  # where the model hears something else than the demo as it is
BATCH_SIZES = (1, 2, 3, 5, 8, 16)
NO_FALLBACK = ["--temperature_increment_on_fallback", "None"]
FAST = ["--beam_size", "1", *NO_FALLBACK]
SHORT_CHUNKS = ["--chunk_size", "10", *NO_FALLBACK]


def run(output_dir: Path, *arguments: object) -> dict[str, bytes]:
    """The files that the command writes; without an alignment model, which would come from the network."""
    options = ["--backend", "mlx", "--no_align", "--verbose", "False", "--output_dir", str(output_dir)]
    assert main([*map(str, arguments), *options]) == 0
    return {path.name: path.read_bytes() for path in output_dir.iterdir()}


def text(file: bytes) -> str:
    return " ".join(file.decode().split())


def write_wav(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def samples(demo_audio) -> np.ndarray:
    return load_audio(demo_audio)


@pytest.fixture(scope="module")
def sentences(demo_audio) -> list[str]:
    return demo_audio.with_suffix(".txt").read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def times(samples, sentences) -> list[tuple[float, float]]:
    """When each sentence is spoken: between the pauses, which are of zeros."""
    sound = np.flatnonzero(samples)
    pauses = np.flatnonzero(np.diff(sound) > 0.4 * SAMPLE_RATE)
    bounds = [sound[0], *itertools.chain(*zip(sound[pauses], sound[pauses + 1], strict=True)), sound[-1]]
    found = [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in zip(bounds[::2], bounds[1::2], strict=True)]
    assert len(found) == len(sentences)
    return found


def error_rate(sentences: list[str], file: bytes) -> float:
    return float(jiwer.wer(" ".join(sentences), text(file)))


def test_the_transcript_of_the_demo_is_exact(demo_audio, demo_model, sentences, tmp_path):
    files = run(tmp_path, demo_audio, "--model", demo_model, "--batch_size", 8)
    assert sorted(files) == ["demo.json", "demo.srt", "demo.tsv", "demo.txt", "demo.vtt"]
    assert text(files["demo.txt"]) == " ".join(sentences)
    result = json.loads(files["demo.json"])
    assert result["language"] == "en"
    assert all(a["end"] <= b["start"] for a, b in itertools.pairwise(result["segments"]))


def test_timestamps_tell_when_each_sentence_is_spoken(demo_audio, demo_model, sentences, times, tmp_path):
    files = run(tmp_path, demo_audio, "--model", demo_model, "--without_timestamps", "False", *FAST)
    segments = json.loads(files["demo.json"])["segments"]
    assert error_rate(sentences, files["demo.txt"]) < HIGHEST_ERROR_RATE
    assert len(segments) == len(sentences)
    for segment, (start, end) in zip(segments, times, strict=True):
        assert segment["start"] == pytest.approx(start, abs=0.4)
        assert segment["end"] == pytest.approx(end, abs=0.4)


@pytest.fixture(scope="module")
def by_one(demo_audio, demo_model, tmp_path_factory) -> dict[str, bytes]:
    return run(tmp_path_factory.mktemp("one"), demo_audio, "--model", demo_model, "--batch_size", 1, *SHORT_CHUNKS)


@pytest.mark.parametrize("batch_size", BATCH_SIZES[1:])
def test_the_files_are_the_same_bytes_for_every_batch_size(demo_audio, demo_model, by_one, batch_size, tmp_path):
    files = run(tmp_path, demo_audio, "--model", demo_model, "--batch_size", batch_size, *SHORT_CHUNKS)
    assert files == by_one
    assert len(json.loads(files["demo.json"])["segments"]) >= 6


CUTS = (2, 8, 14)  # the sentences that begin the second, third and fourth part


@pytest.fixture(scope="module")
def pieces(samples, times, tmp_path_factory) -> list[Path]:
    """The recording in four parts."""
    folder = tmp_path_factory.mktemp("pieces")
    cuts = [0, *(round((times[i - 1][1] + times[i][0]) / 2 * SAMPLE_RATE) for i in CUTS), len(samples)]
    return [write_wav(folder / f"{i}.wav", samples[a:b]) for i, (a, b) in enumerate(itertools.pairwise(cuts))]


CONTAINERS = {
    "mp3": ("libmp3lame", 44_100),
    "m4a": ("aac", 44_100),
    "ogg": ("libopus", 48_000),
    "webm": ("libopus", 48_000),
    "mkv": ("vorbis", 44_100),
    "mov": ("aac", 48_000),
    "flac": ("flac", 16_000),
}


def encoded(path: Path, source: Path, codec: str, rate: int) -> Path:
    with av.open(str(source)) as recording, av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo", options={"strict": "experimental"})
        resampler = av.AudioResampler(stream.format, "stereo", rate, stream.codec_context.frame_size or 1024)
        for frame in itertools.chain(recording.decode(audio=0), [None]):
            for resampled in resampler.resample(frame):
                container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    return path


def test_every_container_says_the_same_words(pieces, demo_model, sentences, tmp_path):
    files = [encoded(tmp_path / f"{name}.{name}", pieces[1], codec, rate) for name, (codec, rate) in CONTAINERS.items()]
    options = ["--output_format", "txt", "--without_timestamps", "False", *FAST]
    written = run(tmp_path / "out", *files, "--model", demo_model, *options)
    assert sorted(written) == sorted(f"{name}.txt" for name in CONTAINERS)
    expected = sentences[CUTS[0] : CUTS[1]]
    assert all(error_rate(expected, file) < HIGHEST_ERROR_RATE for file in written.values())


def test_the_order_of_the_recordings_changes_nothing(demo_model, pieces, tmp_path):
    options = ["--model", demo_model, "--batch_size", 4, *SHORT_CHUNKS, *FAST]
    in_order = run(tmp_path / "a", *pieces, *options)
    assert len(in_order) == 4 * 5
    assert run(tmp_path / "b", *(pieces[i] for i in (2, 0, 3, 1)), *options) == in_order


def test_without_mkl_the_bytes_are_the_same_for_every_batch_size_too(demo_model, pieces, tmp_path):
    script = """
import sys
from whisperx.cli import main
for batch_size in ("1", "3"):
    assert main([*sys.argv[1:], "--batch_size", batch_size, "--output_dir", batch_size]) == 0
"""
    arguments = [pieces[0], "--model", demo_model, "--chunk_size", "4", "--beam_size", "2"]
    arguments += ["--backend", "mlx", "--no_align", "--verbose", "False"]
    environment = os.environ | {"WHISPERX_MKL": "0"}
    subprocess.run([sys.executable, "-c", script, *map(str, arguments)], env=environment, cwd=tmp_path, check=True)
    one, three = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "13")
    assert len(one) == 5
    assert one == three


@pytest.mark.parametrize("vad", ["silero", "none"])
@pytest.mark.parametrize("loudness", [0.0, 0.003])
def test_there_is_no_text_in_silence(demo_model, vad, loudness, tmp_path):
    noise = loudness * np.random.default_rng(0).standard_normal(20 * SAMPLE_RATE)
    recording = write_wav(tmp_path / "silence.wav", noise)
    files = run(tmp_path / "out", recording, "--model", demo_model, "--vad_method", vad, "--language", "en")
    assert files["silence.txt"].strip() == b""
    assert json.loads(files["silence.json"])["segments"] == []
