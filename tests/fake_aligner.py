"""An alignment network that hears what it is told to hear, and audio that says where it is."""

from collections.abc import Sequence

import numpy as np

from whisperx.audio import SAMPLE_RATE
from whisperx.schema import Audio, Emission

HOP = 320
LABELS = "-|abcdefghijklmnopqrstuvwxyz'"  # the blank first, as in the models of torchaudio
DICTIONARY = {label: column for column, label in enumerate(LABELS)}
METADATA = {"language": "en", "dictionary": DICTIONARY, "type": "torchaudio"}


def ramp(seconds: float) -> Audio:
    """Audio whose samples are their own numbers, so that any part of it tells where it was cut."""
    return np.arange(round(seconds * SAMPLE_RATE), dtype=np.float32)


class FakeAligner:
    """Hears label `timeline[i]` in frame i of the recording, wherever the audio it gets was cut from, and the blank
    in all other frames."""

    frame_seconds = HOP / SAMPLE_RATE

    def __init__(self, timeline: dict[int, str], sure: float = 0.9) -> None:
        self.timeline = timeline
        self.sure = sure
        self.heard: list[tuple[int, int]] = []  # first sample and number of samples of all it got
        self.batches: list[int] = []
        self.compat: list[bool] = []

    def emissions(self, audio: Sequence[Audio], batch_size: int, *, compat: bool = False) -> list[Emission]:
        assert len(audio) <= batch_size
        self.batches.append(len(audio))
        self.compat.append(compat)
        return [self._emission(samples) for samples in audio]

    def _emission(self, samples: Audio) -> Emission:
        assert len(samples) >= 400
        first = int(samples[0])
        self.heard.append((first, len(samples)))
        n_frames = (len(samples) - 400) // HOP + 1
        p = np.full((n_frames, len(LABELS)), (1 - self.sure) / (len(LABELS) - 1))
        for i in range(n_frames):
            p[i, DICTIONARY[self.timeline.get(round(first / HOP) + i, "-")]] = self.sure
        return np.log(p).astype(np.float32)


def timeline_of(text: str, first_frame: int, step: int = 3) -> dict[int, str]:
    """Each character of `text` for one frame, every `step` frames."""
    return {first_frame + i * step: character for i, character in enumerate(text)}
