"""Silero VAD: network, thresholds and lengths together."""

from dataclasses import asdict, dataclass

from whisperx.audio import SAMPLE_RATE
from whisperx.models.silero import WINDOW, load_silero
from whisperx.schema import Audio, Span
from whisperx.vads.binarize import Scores, binarize, check_settings


@dataclass(frozen=True)
class Silero:
    """Voice detection with the Silero network: `Silero()(audio)` -> spans. docs/vad.md says how the defaults came.

    Raises OptionError, a ValueError, for a number out of its range.
    """

    # Speech begins at this probability. Lower it when quiet or distant speech is missed.
    vad_onset: float = 0.5
    # Speech ends below this probability; a value above `vad_onset` counts as `vad_onset`. None: 0.15 below `vad_onset`.
    vad_offset: float | None = None
    # A pause shorter than this does not end a span. A higher number gives fewer and longer spans.
    min_silence_duration_ms: int = 100
    # A shorter span is taken for a noise and dropped.
    min_speech_duration_ms: int = 250
    # Added before and after each span. Most speech that is missed is the soft beginning or end of a phrase.
    speech_pad_ms: int = 400

    def __post_init__(self) -> None:
        check_settings(asdict(self))

    def __call__(self, audio: Audio) -> list[Span]:
        """Spans of speech in float32 `(n_samples,)` at 16 kHz, in seconds, in order, not overlapping."""
        return self.spans(load_silero()(audio), len(audio))

    def spans(self, probabilities: Scores, n_samples: int) -> list[Span]:
        """The same from the network's probabilities, one for every 512 samples of a recording of `n_samples`."""
        return binarize(
            probabilities,
            window=WINDOW,
            n_samples=n_samples,
            onset=self.vad_onset,
            offset=max(self.vad_onset - 0.15, 0.01) if self.vad_offset is None else self.vad_offset,
            min_speech=_samples(self.min_speech_duration_ms),
            min_silence=_samples(self.min_silence_duration_ms),
            pad=_samples(self.speech_pad_ms),
        )


def _samples(milliseconds: int) -> int:
    return milliseconds * SAMPLE_RATE // 1000
