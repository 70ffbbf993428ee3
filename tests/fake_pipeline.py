"""A stand-in for a loaded model: what a recording says follows from its length alone."""

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whisperx import transcribe
from whisperx.schema import Audio, Chunk, DecodingOptions, Meter, SingleSegment, TranscriptionResult, Vad

SAMPLE_RATE = 16000

Command = Callable[..., tuple[int, str, str]]  # arguments of the command -> exit status, stdout, stderr


def errors(stderr: str) -> list[str]:
    """The errors among what the command says."""
    return [line for line in stderr.splitlines() if line.startswith("whisperx: error: ")]


def write_recording(path: Path, seconds: float) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.zeros(round(seconds * SAMPLE_RATE), dtype="<i2").tobytes())
    return path


class FakePipeline:
    """Hears one segment a second: " 3 seconds, part 1." and so on. Keeps what it was asked."""

    device = "toy"

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.text = " {n} seconds, part {i}."
        self.on_call: Callable[[Audio], None] = lambda audio: None

    def best_batch_size(self, options: DecodingOptions) -> int:
        return 99

    def transcribe(
        self,
        audio: Audio,
        batch_size: int | None = None,
        *,
        chunks: list[Chunk],
        word_timestamps: bool | Callable[[str], bool],
        on_segment: Callable[[SingleSegment], None] | None,
        on_progress: Callable[[float, float], None] | None,
        meter: Meter | None,
    ) -> TranscriptionResult:
        assert on_segment is not None
        assert on_progress is not None
        assert meter is not None
        self.calls.append({"batch_size": batch_size, "chunk_size": chunks[0].end})
        self.on_call(audio)
        n_seconds = len(audio) // SAMPLE_RATE
        has_words = word_timestamps("de") if callable(word_timestamps) else word_timestamps
        segments: list[SingleSegment] = []
        for i in range(n_seconds):
            text = self.text.format(n=n_seconds, i=i + 1)
            segments.append({"text": text, "start": float(i), "end": i + 1.0, "avg_logprob": -0.5})
            if has_words:
                words = [{"word": word, "start": float(i), "end": i + 1.0, "score": 0.5} for word in text.split()]
                segments[-1]["words"] = words  # type: ignore[typeddict-item]
            on_progress(i + 1, n_seconds)
            on_segment(segments[-1])
        for thing, n in {"chunks": n_seconds, "tokens": 5 * n_seconds, "steps": 6, "live_rows": 9, "rows": 12}.items():
            meter.count(thing, n)
        with meter.time("decode tokens"):
            pass
        return {"segments": segments, "language": "de"}


class FakeLoader:
    """In place of `load_model`: returns a FakePipeline and keeps what it was asked. Finds speech without a model."""

    def __init__(self) -> None:
        self.heard: list[tuple[Vad, float, tuple[float, ...]]] = []
        self.on_speech: Callable[[Audio], None] = lambda audio: None
        self.pipeline = FakePipeline()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None
        self.on_call: Callable[[], None] = lambda: None

    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on, until the test is over."""
        monkeypatch.setattr(transcribe, "load_model", self)
        monkeypatch.setattr(transcribe, "find_chunks", self.find_chunks)

    def __call__(self, model: str, **options: Any) -> FakePipeline:
        self.calls.append((model, options))
        self.on_call()
        if self.error is not None:
            raise self.error
        return self.pipeline

    def find_chunks(self, vad: Vad, audio: Audio, longest: float, clip_timestamps: tuple[float, ...]) -> list[Chunk]:
        """One chunk, as long as was asked for at most."""
        self.heard.append((vad, longest, clip_timestamps))
        self.on_speech(audio)
        return [Chunk(0.0, float(longest), (), audio)]
