"""From a checkpoint's arrays to a network on the device."""

import logging

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_unflatten

from whisperx.checkpoints import Checkpoint, Quantization, dequantize
from whisperx.checkpoints.tensors import Array
from whisperx.models.whisper.model import Whisper

logger = logging.getLogger(__name__)

# Rows of one matrix product of the decoder (see models.whisper.model). Up to 16 rows cost a CPU or a Mac little more
# than one; a data-centre GPU does 64 in the time of one.
ROWS_PER_TILE_CPU = 16
ROWS_PER_TILE_METAL = 16
ROWS_PER_TILE_CUDA = 64


def default_rows_per_tile() -> int:
    if mx.default_device() == mx.cpu:
        return ROWS_PER_TILE_CPU
    return ROWS_PER_TILE_METAL if mx.metal.is_available() else ROWS_PER_TILE_CUDA


def build_whisper(checkpoint: Checkpoint, *, dtype: mx.Dtype, rows_per_tile: int | None = None) -> Whisper:
    """The network of a checkpoint on the default device."""
    model = Whisper(checkpoint.dims, rows_per_tile or default_rows_per_tile())
    stored, packing = checkpoint.arrays, checkpoint.quantization
    if packing is not None and mx.default_device() == mx.cpu:
        logger.info("expanding %d-bit weights to float32: a CPU multiplies packed ones slowly", packing.bits)
        stored = _expanded(stored, packing)
    elif packing is not None:
        nn.quantize(model, packing.group_size, packing.bits, class_predicate=lambda path, _: f"{path}.scales" in stored)
    arrays = {name: mx.array(array) for name, array in stored.items()}
    cast = {name: array if array.dtype == mx.uint32 else array.astype(dtype) for name, array in arrays.items()}
    model.update(tree_unflatten(list(cast.items())))
    model.encoder.positional_embedding = model.encoder.positional_embedding.astype(dtype)
    if mx.default_device() == mx.cpu:
        _transpose_linears(model)
    mx.eval(model.parameters())
    return model


def _expanded(arrays: dict[str, Array], packing: Quantization) -> dict[str, Array]:
    expanded = {}
    for name, array in arrays.items():
        stem = name.removesuffix("weight")
        if f"{stem}scales" in arrays:
            scales, biases = arrays[f"{stem}scales"], arrays[f"{stem}biases"]
            array = dequantize(array, scales, biases, packing.group_size, packing.bits)
        if not name.endswith((".scales", ".biases")):
            expanded[name] = array
    return expanded


def _transpose_linears(model: Whisper) -> None:
    """Lay weights out as x @ W wants them: with 16 rows, MKL takes 4 times as long on the transposed layout."""
    for _, module in model.named_modules():
        if isinstance(module, nn.Linear):
            module.weight = mx.contiguous(module.weight.T).T
