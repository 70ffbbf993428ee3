"""Model files -> NumPy arrays. Nothing here runs code that a file brings along."""

from whisperx.checkpoints.dimensions import WhisperDimensions
from whisperx.checkpoints.whisper import (
    Checkpoint,
    Quantization,
    dequantize,
    expected_shapes,
    load_checkpoint,
    sinusoids,
)

__all__ = [
    "Checkpoint",
    "Quantization",
    "WhisperDimensions",
    "dequantize",
    "expected_shapes",
    "load_checkpoint",
    "sinusoids",
]
