"""Detectors written for WhisperX: the class that they derive from, and what makes one fit here."""

from collections.abc import Sequence
from typing import Any, TypedDict

from whisperx.audio import CHUNK_LENGTH, SAMPLE_RATE
from whisperx.schema import Audio, Span
from whisperx.vads.binarize import check_settings


class MergedSpeech(TypedDict):
    """Speech that is decoded as one, in seconds."""

    start: float
    end: float
    segments: list[tuple[float, float]]


class Vad:
    """What WhisperX's own detectors derive from, and others with them.

    An instance is called with `{"waveform": preprocess_audio(samples), "sample_rate": 16000}`; what it returns goes
    to `merge_chunks`.
    """

    def __init__(self, vad_onset: float) -> None:
        check_settings({"vad_onset": vad_onset})

    @staticmethod
    def preprocess_audio(audio: Audio) -> Any:
        """Samples as the detector wants them."""
        return audio

    @staticmethod
    def merge_chunks(
        segments: Sequence[Any], chunk_size: float, onset: float = 0.5, offset: float | None = None
    ) -> list[MergedSpeech]:
        """Things with `start` and `end`, in order of time, merged into stretches of at most `chunk_size` seconds.

        onset, offset : there for detectors that return scores
        """
        merged: list[MergedSpeech] = []
        for segment in segments:
            start, end = float(segment.start), float(segment.end)
            if merged and end - merged[-1]["start"] <= chunk_size:
                merged[-1]["end"] = end
                merged[-1]["segments"].append((start, end))
            else:
                merged.append({"start": start, "end": end, "segments": [(start, end)]})
        return merged


class Adapted:
    """A detector of WhisperX's kind as this package calls one: audio -> spans."""

    def __init__(self, vad: Any, onset: float, offset: float | None) -> None:
        self._vad, self._onset, self._offset = vad, onset, offset

    def __call__(self, audio: Audio) -> list[Span]:
        found = self._vad({"waveform": self._vad.preprocess_audio(audio), "sample_rate": SAMPLE_RATE})
        merged = self._vad.merge_chunks(found, CHUNK_LENGTH, onset=self._onset, offset=self._offset)
        return [Span(float(speech["start"]), float(speech["end"])) for speech in merged]
