"""pyannote VAD: the speaker segmentation network, asked whether anybody speaks."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from whisperx.audio import SAMPLE_RATE, as_samples, resampled
from whisperx.errors import ModelNotFoundError, OptionError
from whisperx.models.segmentation import FIRST_FRAME_MIDDLE, FRAME_STEP, overlap_add, packaged_segmentation
from whisperx.schema import Audio, Span
from whisperx.vads.binarize import (
    Scores,
    bridge_pauses,
    check_settings,
    drop_short,
    hysteresis,
    pad_regions,
    split_long,
)
from whisperx.vads.vad import MergedSpeech, Vad


@dataclass(frozen=True)
class Pyannote:
    """Voice detection with pyannote's network: `Pyannote()(audio)` -> spans. docs/vad.md compares it with Silero.

    Raises OptionError, a ValueError, for a number out of its range.
    """

    # Speech begins at this score. Lower it when quiet or distant speech is missed.
    vad_onset: float = 0.5
    # Speech ends below this score; a value above `vad_onset` counts as `vad_onset`. None: 0.137 below `vad_onset`, at
    # least 0.01, which is WhisperX's 0.363 for its 0.5.
    vad_offset: float | None = None
    # A pause shorter than this does not end a span.
    min_silence_duration_ms: int = 0
    # A shorter span is taken for a noise and dropped.
    min_speech_duration_ms: int = 0
    # Added before and after each span, as for Silero; WhisperX adds nothing and leaves three times as much undecoded.
    speech_pad_ms: int = 400
    # A longer span is cut where the score is lowest in its second half.
    max_speech_duration_s: float = 30.0
    # From one window of 5 s to the next. WhisperX has 0.5, which takes five times as long; docs/vad.md has figures.
    step_seconds: float = 2.5

    def __post_init__(self) -> None:
        check_settings(asdict(self))
        if not self.max_speech_duration_s > 0:
            raise OptionError(f"max_speech_duration_s is more than 0 seconds, not {self.max_speech_duration_s}.")

    def __call__(self, audio: Audio) -> list[Span]:
        """Spans of speech in float32 `(n_samples,)` at 16 kHz, in seconds, in order, not overlapping."""
        return self.spans(speech_scores(audio, self.step_seconds), len(audio))

    def spans(self, scores: Scores, n_samples: int) -> list[Span]:
        """The same from `speech_scores` of a recording of `n_samples`. Borders are middles of frames, as WhisperX's."""
        offset = max(self.vad_onset - 0.137, 0.01) if self.vad_offset is None else self.vad_offset
        frames = bridge_pauses(hysteresis(scores, self.vad_onset, offset), _frames(self.min_silence_duration_ms))
        frames = drop_short(frames, max(1, _frames(self.min_speech_duration_ms)))
        frames = split_long(frames, scores, max(1, int(self.max_speech_duration_s * SAMPLE_RATE) // FRAME_STEP))
        borders = FIRST_FRAME_MIDDLE + FRAME_STEP * np.minimum(frames, len(scores) - 1)
        regions = drop_short(pad_regions(borders, self.speech_pad_ms * SAMPLE_RATE // 1000, n_samples), 1)
        return [Span(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in regions.tolist()]

    @staticmethod
    def preprocess_audio(audio: Audio) -> Audio:
        """Samples as `load_vad_model`'s network wants them: as they are."""
        return audio

    @staticmethod
    def merge_chunks(
        segments: "SpeechScores", chunk_size: float, onset: float = 0.5, offset: float | None = None
    ) -> list[MergedSpeech]:
        """The speech in what `load_vad_model`'s network returns, merged as WhisperX does. No `offset`: `onset`."""
        return Vad.merge_chunks(Binarize(onset, offset, max_duration=chunk_size)(segments), chunk_size)


@dataclass(frozen=True)
class SpeechScores:
    """How sure the network is that somebody speaks, and for how many samples that was."""

    scores: Scores
    n_samples: int


class Binarize:
    """Scores -> spans, with the thresholds of WhisperX: onset, offset (None: as onset), seconds at most of a span."""

    def __init__(self, onset: float = 0.5, offset: float | None = None, *, max_duration: float = 1e6) -> None:
        self._vad = Pyannote(onset, offset or onset, speech_pad_ms=0, max_speech_duration_s=max_duration)

    def __call__(self, scores: SpeechScores) -> list[Span]:
        return self._vad.spans(scores.scores, scores.n_samples)


class VoiceActivitySegmentation:
    """The network alone: `{"waveform": samples or a tensor (1, n), "sample_rate": any}` -> `SpeechScores`.

    Raises OptionError for a rate outside 1000 to 768000.
    """

    def to(self, device: object) -> "VoiceActivitySegmentation":
        """There because WhisperX's is moved to a device: this one computes on the CPU."""
        return self

    def __call__(self, audio: Mapping[str, Any]) -> SpeechScores:
        samples = resampled(as_samples(audio["waveform"]), int(audio["sample_rate"]))
        return SpeechScores(speech_scores(samples, Pyannote.step_seconds), len(samples))


def load_vad_model(
    device: object = None,
    vad_onset: float = 0.5,
    vad_offset: float = 0.363,
    token: str | bool | None = None,
    model_fp: str | os.PathLike[str] | None = None,
    use_auth_token: str | bool | None = None,
) -> VoiceActivitySegmentation:
    """pyannote's network as programs written for WhisperX load it; `Pyannote.merge_chunks` reads its scores.

    All arguments are there because WhisperX has them: the network comes with this package, and thresholds are those
    of `merge_chunks`, there too.

    Raises ModelNotFoundError, a FileNotFoundError, for weights elsewhere.
    """
    if model_fp is not None:
        raise ModelNotFoundError(f"{model_fp}: only the weights that come with this package are used; leave it out.")
    return VoiceActivitySegmentation()


def speech_scores(audio: Audio, step_seconds: float) -> Scores:
    """How sure it is that somebody speaks, float32 `(n_frames,)`, 16.875 ms apart from 31 ms on.

    The score of the most active speaker, averaged over the windows that a frame is in: those of 5 s, `step_seconds`
    apart.
    """
    network = packaged_segmentation()
    scores = network.scores(audio, step_seconds=step_seconds).max(axis=2, keepdims=True)
    return overlap_add(scores, network.geometry(step_seconds), len(audio))[:, 0]


def _frames(milliseconds: int) -> int:
    return -(-milliseconds * SAMPLE_RATE // (1000 * FRAME_STEP))  # rounded up
