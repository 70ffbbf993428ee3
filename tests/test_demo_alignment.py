"""The demo aligner on the whole demo recording; tests/test_demo_aligner.py looks at words one by one."""

import json
from pathlib import Path
from typing import Any

import pytest

import whisperx
from whisperx.schema import AlignModel, Audio
from whisperx.transcripts import read_transcript
from whisperx.vads import Silero

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def aligner() -> tuple[AlignModel, dict[str, Any]]:
    return whisperx.alignment.load_align_model("en", "cpu", str(EXAMPLES / "demo-aligner"))


@pytest.fixture(scope="module")
def audio(demo_audio: Path) -> Audio:
    return whisperx.load_audio(demo_audio)


def test_lines_of_a_text_without_times_are_found_where_there_is_speech(
    aligner: tuple[AlignModel, dict[str, Any]], audio: Audio
) -> None:
    segments = read_transcript(EXAMPLES / "demo.txt").segments
    result = whisperx.alignment.align(segments, *aligner, audio, "cpu")
    assert [s["text"] for s in result["segments"]] == (EXAMPLES / "demo.txt").read_text("utf-8").splitlines()
    assert all("score" in word for word in result["word_segments"])
    speech = Silero(0.5, None, min_silence_duration_ms=100, min_speech_duration_ms=250, speech_pad_ms=30)(audio)
    assert [s["start"] for s in result["segments"]] == pytest.approx([span.start for span in speech], abs=0.15)
    assert [s["end"] for s in result["segments"]] == pytest.approx([span.end for span in speech], abs=0.3)


def test_times_are_the_same_whatever_the_batch(aligner: tuple[AlignModel, dict[str, Any]], audio: Audio) -> None:
    lines = (EXAMPLES / "demo.txt").read_text("utf-8").splitlines()[:4]
    transcript: Any = [
        {"text": line, "start": start, "end": end}
        for line, (start, end) in zip(lines, [(0.3, 2.6), (2.7, 5.6), (5.9, 9.2), (9.3, 12.5)], strict=True)
    ]
    results = [whisperx.alignment.align(transcript, *aligner, audio, "cpu", batch_size=size) for size in (1, 3, 8)]
    assert json.dumps(results[0]) == json.dumps(results[1]) == json.dumps(results[2])
