"""The whole way with the model that comes with the project: a recording in, files out."""

import itertools
import json
import re
from pathlib import Path

import jiwer
import pytest

from whisperx.cli import main

BATCH_SIZES = (1, 2, 3, 5, 8, 16)
HIGHEST_ERROR_RATE = 0.5
FAST = ["--backend", "mlx", "--verbose", "False", "--beam_size", "1", "--temperature_increment_on_fallback", "None"]


def words(text: str) -> list[str]:
    return re.findall(r"\S+", text)


def run(output_dir: Path, *arguments: object) -> dict[str, bytes]:
    """The files that the command writes."""
    assert main([*map(str, arguments), "--output_dir", str(output_dir), *FAST]) == 0
    return {path.name: path.read_bytes() for path in output_dir.iterdir()}


@pytest.fixture(scope="module")
def expected(demo_audio) -> list[str]:
    return words(demo_audio.with_suffix(".txt").read_text("utf-8"))


@pytest.fixture(scope="module")
def by_one(demo_audio, demo_model, tmp_path_factory) -> dict[str, bytes]:
    """Short chunks, so that there are more of them than fit most batches."""
    folder = tmp_path_factory.mktemp("one")
    return run(folder, demo_audio, "--model", demo_model, "--batch_size", 1, "--chunk_size", 8)


def test_most_words_of_the_transcript_are_right(demo_audio, demo_model, expected, tmp_path):
    files = run(tmp_path, demo_audio, "--model", demo_model, "--chunk_size", 4)
    assert sorted(files) == ["demo.json", "demo.srt", "demo.tsv", "demo.txt", "demo.vtt"]
    assert jiwer.wer(" ".join(expected), " ".join(words(files["demo.txt"].decode()))) < HIGHEST_ERROR_RATE
    result = json.loads(files["demo.json"])
    assert result["language"] == "en"
    assert all(a["end"] <= b["start"] for a, b in itertools.pairwise(result["segments"]))


@pytest.mark.parametrize("batch_size", BATCH_SIZES[1:])
def test_the_files_are_the_same_bytes_for_every_batch_size(demo_audio, demo_model, by_one, batch_size, tmp_path):
    files = run(tmp_path, demo_audio, "--model", demo_model, "--batch_size", batch_size, "--chunk_size", 8)
    assert files == by_one
    assert len(json.loads(files["demo.json"])["segments"]) >= 6
