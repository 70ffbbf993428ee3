"""Checkpoints of pyannote.audio: what PyTorch Lightning saved, and beside it what the network is for."""

from pathlib import Path
from typing import Any

from whisperx.checkpoints.pytorch import LIGHTNING_OBJECTS, Opaque, load_torch
from whisperx.checkpoints.tensors import Tensor
from whisperx.errors import CheckpointError


def open_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors in a `pytorch_model.bin`, not yet read, and specifications.

    Raises CheckpointError for another file, or none.
    """
    root = load_torch(path, opaque=LIGHTNING_OBJECTS)
    try:
        specifications = root["pyannote.audio"]["specifications"]
        tensors = {name: value for name, value in root["state_dict"].items() if isinstance(value, Tensor)}
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of pyannote.audio: {error}") from error
    if not isinstance(specifications, Opaque) or not isinstance(specifications.state, dict):
        raise CheckpointError(f"{path}: a checkpoint of pyannote.audio, but without specifications")
    return tensors, specifications.state
