"""What can go wrong, as classes.

    WhisperXError
    ├── AudioError(RuntimeError)        a recording that cannot be read; the text starts with "Failed to load audio: "
    ├── ModelError
    │   ├── ModelNotFoundError(ValueError, FileNotFoundError)   no such model here, and none could be downloaded
    │   └── CheckpointError(ValueError)  files are there but are no usable checkpoint (broken, unsafe, tensors missing)
    ├── BackendError(RuntimeError)      the engine asked for is not installed or cannot run on this machine
    └── OptionError(ValueError)         an option out of its range, or one that cannot be honoured
        └── ClipError                   clip_timestamps that this recording, being too short, does not have

Each class is also the builtin that WhisperX raises in the same place, so `except RuntimeError` written for WhisperX
keeps working. Messages are one line: what was wrong, what was expected, what to do.
"""


class WhisperXError(Exception):
    """Base of every error that this package raises on purpose."""


class AudioError(WhisperXError, RuntimeError):
    """A recording that cannot be read. The text starts with "Failed to load audio: "."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Failed to load audio: {reason}")


class ModelError(WhisperXError):
    """A model that cannot be used."""


class ModelNotFoundError(ModelError, ValueError, FileNotFoundError):
    """A model name, folder or repository that is not here and could not be downloaded."""


class CheckpointError(ModelError, ValueError):
    """Model files that are broken, unsafe to read, or lack tensors."""


class BackendError(WhisperXError, RuntimeError):
    """An engine that is not installed or cannot run on this machine."""


class OptionError(WhisperXError, ValueError):
    """An option out of its range, or one that cannot be honoured."""


class ClipError(OptionError):
    """Clips that begin where the recording has ended; for another recording they may do."""
