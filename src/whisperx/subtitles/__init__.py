"""From a result to what is shown when: as WhisperX does it, or by the rules of those who publish subtitles."""
