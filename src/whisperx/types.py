"""WhisperX's earlier name of `schema`."""

from whisperx.schema import (
    AlignedTranscriptionResult,
    ProgressCallback,
    SingleAlignedSegment,
    SingleCharSegment,
    SingleSegment,
    SingleWordSegment,
    TranscriptionResult,
)

__all__ = [
    "AlignedTranscriptionResult",
    "ProgressCallback",
    "SingleAlignedSegment",
    "SingleCharSegment",
    "SingleSegment",
    "SingleWordSegment",
    "TranscriptionResult",
]
