"""WhisperX's import path for what lives in `subtitles.languages`."""

from whisperx.subtitles.languages import get_comma, get_conjunctions

__all__ = ["get_comma", "get_conjunctions"]
