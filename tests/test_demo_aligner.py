"""The demo models on a recording whose word times the synthesiser tells: sentences and words not trained on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whisperx.alignment import align, load_align_model
from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.backends.mlx import MlxBackend
from whisperx.schema import AlignModel, Audio, SingleSegment

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "demo-aligner"
RECORDING = ROOT / "tests" / "data" / "words.flac"
SENTENCES: list[dict[str, Any]] = json.loads(RECORDING.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def aligner() -> tuple[AlignModel, dict[str, Any]]:
    return load_align_model("en", "cpu", model_name=str(FOLDER))


@pytest.fixture(scope="module")
def audio() -> Audio:
    return load_audio(RECORDING)


def sentence_segments() -> list[SingleSegment]:
    """Each sentence in a stretch that is somewhat too long, as speech detection gives it."""
    return [{"text": s["text"], "start": s["start"] - 0.2, "end": s["end"] + 0.15} for s in SENTENCES]


def whole_segment(audio: Audio) -> list[SingleSegment]:
    text = " ".join(sentence["text"] for sentence in SENTENCES)
    return [{"text": text, "start": 0.0, "end": len(audio) / SAMPLE_RATE}]


@pytest.mark.parametrize("pieces", ["a segment for each sentence", "one segment"])
def test_words_start_when_they_are_said(aligner: tuple[AlignModel, dict[str, Any]], audio: Audio, pieces: str) -> None:
    segments = whole_segment(audio) if pieces == "one segment" else sentence_segments()
    found = align(segments, *aligner, audio, "cpu")["word_segments"]
    truth = [word for sentence in SENTENCES for word in sentence["words"]]
    assert [word["word"].strip(".,?!").lower() for word in found] == [word["word"] for word in truth]
    starts = np.array([word["start"] for word in found]) - [word["start"] for word in truth]
    ends = np.array([word["end"] for word in found]) - [word["end"] for word in truth]
    assert np.median(np.abs(starts)) <= 0.03
    assert np.mean(np.abs(starts) > 0.1) <= 0.05
    assert np.median(np.abs(ends)) <= 0.04


def test_attention_of_the_demo_model_tells_when_words_are_said(audio: Audio) -> None:
    backend = MlxBackend(ROOT / "examples" / "demo-model", device="cpu")
    (found,) = backend.time_words([audio], ["".join(" " + sentence["text"] for sentence in SENTENCES)], "en")
    truth = [word for sentence in SENTENCES for word in sentence["words"]]
    starts = np.array([word.start for word in found]) - [word["start"] for word in truth]
    ends = np.array([word.end for word in found]) - [word["end"] for word in truth]
    assert np.median(np.abs(starts)) <= 0.08
    assert np.median(np.abs(ends)) <= 0.08
    assert abs(starts[0]) <= 0.1  # after half a second of quiet


def test_batch_size_changes_no_word(aligner: tuple[AlignModel, dict[str, Any]], audio: Audio) -> None:
    results = [align(sentence_segments(), *aligner, audio, "cpu", batch_size=n) for n in (1, 3, 16)]
    assert results[0] == results[1] == results[2]


def test_files_are_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 4_000_000
