"""WhisperX's import path for what lives in `subtitles.processor`."""  # noqa: N999 its name, not ours

from whisperx.subtitles.processor import SubtitlesProcessor, format_timestamp, normal_round

__all__ = ["SubtitlesProcessor", "format_timestamp", "normal_round"]
