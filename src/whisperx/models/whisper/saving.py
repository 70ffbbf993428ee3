"""From a checkpoint's arrays to a model folder in MLX's layout."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import mlx.core as mx

from whisperx.checkpoints import Checkpoint, Quantization
from whisperx.models.whisper.compute_types import DTYPES, ComputeType, described
from whisperx.models.whisper.loading import round_weights

logger = logging.getLogger(__name__)


def save_whisper(checkpoint: Checkpoint, folder: Path, *, dtype: str, quantization: Quantization | None) -> None:
    """Write `weights.safetensors`, `config.json` and `generation_config.json` into an existing folder.

    The layout is mlx-whisper's, which loads such a folder too; the alignment heads are in the weights for it, and in
    generation_config.json, where whoever knows them from Hugging Face looks. `dtype` is one of `DTYPES`.
    Raises OSError.
    """
    logger.info("weights are kept as %s", described(ComputeType(DTYPES[dtype], quantization)))
    weights = round_weights(checkpoint, dtype=DTYPES[dtype], quantization=quantization)
    heads = mx.array(checkpoint.alignment_heads.tolist(), dtype=mx.int32)
    path = folder / "weights.safetensors"
    try:
        mx.save_safetensors(str(path), weights | {"alignment_heads": heads}, {"format": "mlx"})
    except RuntimeError as error:
        raise OSError(f"{path} cannot be written: {error}") from error

    config: dict[str, object] = {"model_type": "whisper", **asdict(checkpoint.dims)}
    if quantization is not None:
        config["quantization"] = asdict(quantization)
    generation_config = checkpoint.generation_config | {"alignment_heads": checkpoint.alignment_heads.tolist()}
    for name, settings in (("config.json", config), ("generation_config.json", generation_config)):
        (folder / name).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
