"""Where somebody speaks: a `Vad` is any callable audio -> spans in order of time."""

from whisperx.audio import SAMPLE_RATE
from whisperx.errors import OptionError
from whisperx.schema import Audio, Span
from whisperx.schema import Vad as AnyVad
from whisperx.vads.pyannote import Pyannote
from whisperx.vads.silero import Silero
from whisperx.vads.vad import Adapted, Vad

__all__ = ["Pyannote", "Silero", "Vad", "adapted", "load_vad", "whole_recording"]


def load_vad(method: str, *, onset: float = 0.5, offset: float | None = None) -> AnyVad:
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


def adapted(vad: AnyVad | Vad, *, onset: float = 0.5, offset: float | None = None) -> AnyVad:
    """A detector of somebody's own as this package calls it, also one that derives from `Vad`, as in WhisperX."""
    return Adapted(vad, onset, offset) if isinstance(vad, Vad) else vad


def whole_recording(audio: Audio) -> list[Span]:
    """No detection: one span from beginning to end, none when there is no audio."""
    return [Span(0.0, len(audio) / SAMPLE_RATE)] if len(audio) else []
