"""pyannote VAD: the speaker segmentation network, asked whether anybody speaks."""

from dataclasses import dataclass

import numpy as np

from whisperx.audio import SAMPLE_RATE
from whisperx.errors import OptionError
from whisperx.models.segmentation import FIRST_FRAME_MIDDLE, FRAME_STEP, overlap_add, packaged_segmentation
from whisperx.schema import Audio, Span
from whisperx.vads.binarize import Scores, bridge_pauses, drop_short, hysteresis, pad_regions, split_long


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
    # Added before and after each span.
    speech_pad_ms: int = 0
    # A longer span is cut where the score is lowest in its second half.
    max_speech_duration_s: float = 30.0
    # From one window of 5 s to the next. WhisperX has 0.5, which takes five times as long; docs/vad.md has figures.
    step_seconds: float = 2.5

    def __post_init__(self) -> None:
        for name in ("vad_onset", "vad_offset"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise OptionError(f"{name} is a decimal value between 0 and 1.")
        for name in ("min_silence_duration_ms", "min_speech_duration_ms", "speech_pad_ms"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} is a number of milliseconds from 0 up, not {getattr(self, name)}.")
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
