"""Where somebody speaks: a `Vad` is any callable audio -> spans in order of time."""

from whisperx.audio import SAMPLE_RATE
from whisperx.errors import OptionError
from whisperx.schema import Audio, Span, Vad
from whisperx.vads.pyannote import Pyannote
from whisperx.vads.silero import Silero

__all__ = ["Pyannote", "Silero", "Vad", "load_vad", "whole_recording"]


def load_vad(method: str, *, onset: float = 0.5, offset: float | None = None) -> Vad:
    """The detector called `method`: "silero", "pyannote", or "none" for no detection at all.

    Raises OptionError, a ValueError, for another name, and for an `onset` or `offset` not between 0 and 1.
    """
    if method == "silero":
        return Silero(vad_onset=onset, vad_offset=offset)
    if method == "pyannote":
        return Pyannote(vad_onset=onset, vad_offset=offset)
    if method == "none":
        return whole_recording
    raise OptionError(f"Invalid vad_method: {method}")


def whole_recording(audio: Audio) -> list[Span]:
    """No detection: one span from beginning to end, none when there is no audio."""
    return [Span(0.0, len(audio) / SAMPLE_RATE)] if len(audio) else []
