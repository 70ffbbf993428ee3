"""From a checkpoint's arrays to a network on the device."""

import logging
from collections.abc import Mapping

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_unflatten

from whisperx.checkpoints import Checkpoint, Quantization, WhisperDimensions
from whisperx.checkpoints.tensors import Array
from whisperx.models.blas import blas_in_use
from whisperx.models.ops import to_host
from whisperx.models.whisper.model import Whisper

logger = logging.getLogger(__name__)

# Rows of one matrix product of the decoder (see models.whisper.model). Up to 16 rows cost a CPU or a Mac little more
# than one; a data-centre GPU does 64 in the time of one. With 16, OpenBLAS on processors without AVX-512 gives a row
# other bits in other places of a tile; with 8 it gives the same, and MKL does for any number (docs/cpu.md).
ROWS_PER_TILE_MKL = 16
ROWS_PER_TILE_CPU = 8
ROWS_PER_TILE_METAL = 16
ROWS_PER_TILE_CUDA = 64


def default_rows_per_tile() -> int:
    if mx.default_device() == mx.cpu:
        return ROWS_PER_TILE_MKL if blas_in_use().startswith("MKL") else ROWS_PER_TILE_CPU
    return ROWS_PER_TILE_METAL if mx.metal.is_available() else ROWS_PER_TILE_CUDA


def build_whisper(
    checkpoint: Checkpoint,
    *,
    dtype: mx.Dtype,
    quantization: Quantization | None = None,
    rows_per_tile: int | None = None,
    on_host: bool | None = None,
) -> Whisper:
    """The network of a checkpoint on the default device, its weights rounded as `round_weights` does it.

    On a CPU quantised weights are expanded to float32 after rounding.

    on_host : whether it computes in NumPy (see `models.ops`); None: in float32 on a CPU
    """
    weights = round_weights(checkpoint, dtype=dtype, quantization=quantization)
    stored = checkpoint.arrays["decoder.token_embedding.weight"]
    halves = stored if stored.dtype == np.float16 and dtype != mx.bfloat16 else None
    if quantization is not None and mx.default_device() == mx.cpu:
        weights, quantization, dtype = _expanded(weights, quantization), None, mx.float32
    rows_per_tile = rows_per_tile or default_rows_per_tile()
    model = assemble(checkpoint.dims, weights, quantization, rows_per_tile)
    mx.eval(model.parameters())
    del weights  # what is laid out below is let go one by one
    if on_host is None:
        on_host = mx.default_device() == mx.cpu and dtype == mx.float32
    if on_host:
        to_host(model)
        model.decoder.lay_out(rows_per_tile, halves)
    return model


def assemble(
    dims: WhisperDimensions,
    weights: Mapping[str, mx.array],
    quantization: Quantization | None,
    rows_per_tile: int | None,
) -> Whisper:
    """A network with these weights. A layer that has scales among them multiplies packed numbers."""
    model = Whisper(dims, rows_per_tile)
    if quantization is not None:
        group_size, bits = quantization.group_size, quantization.bits
        nn.quantize(model, group_size, bits, class_predicate=lambda path, _: f"{path}.scales" in weights)
    model.update(tree_unflatten(list(weights.items())))
    model.encoder.positional_embedding = model.encoder.positional_embedding.astype(model.dtype)
    return model


def round_weights(checkpoint: Checkpoint, *, dtype: mx.Dtype, quantization: Quantization | None) -> dict[str, mx.array]:
    """Weights by name, in `dtype`; those of linear layers packed as `quantization` says, with `.scales` and `.biases`.

    A layer whose width is no multiple of the group is left in `dtype`. A checkpoint that is packed in the same way
    stays as it is; packed otherwise, it is expanded first.
    """
    stored = checkpoint.quantization
    weights: dict[str, mx.array] = {}
    too_narrow = []
    for name in (name for name in checkpoint.arrays if not name.endswith((".scales", ".biases"))):
        new = _with_scales(name, checkpoint.arrays)
        if stored is not None and stored != quantization:
            new = _expanded(new, stored)
        new = {key: array if array.dtype == mx.uint32 else array.astype(dtype) for key, array in new.items()}
        if quantization is not None and stored != quantization and _is_linear(name, new[name]):
            if new[name].shape[1] % quantization.group_size == 0:
                new = _packed(name, new[name], quantization)
            else:
                too_narrow.append(name)
        mx.eval(new)  # tensor by tensor, so that the unpacked ones are never in memory all together
        weights |= new
    if quantization is not None and too_narrow:
        logger.warning(
            "%d layers are not quantised, their width is no multiple of %d: %s, ...",
            len(too_narrow),
            quantization.group_size,
            too_narrow[0],
        )
    return weights


def _with_scales(name: str, arrays: Mapping[str, Array]) -> dict[str, mx.array]:
    """A tensor, and its scales and biases where it is packed."""
    stem = name.removesuffix("weight")
    names = [name, *(f"{stem}{part}" for part in ("scales", "biases") if f"{stem}{part}" in arrays)]
    return {name: mx.array(arrays[name]) for name in names}


def _is_linear(name: str, array: mx.array) -> bool:
    return array.ndim == 2 and name.endswith(".weight") and "embedding" not in name


def _packed(name: str, array: mx.array, packing: Quantization) -> dict[str, mx.array]:
    stem = name.removesuffix("weight")
    parts = mx.quantize(array, packing.group_size, packing.bits)
    return dict(zip((name, f"{stem}scales", f"{stem}biases"), parts, strict=True))


def _expanded(weights: Mapping[str, mx.array], packing: Quantization) -> dict[str, mx.array]:
    """All in float32, packed ones unpacked."""
    expanded = {}
    for name, array in weights.items():
        stem = name.removesuffix("weight")
        if f"{stem}scales" in weights:
            scales, biases = (weights[f"{stem}{part}"].astype(mx.float32) for part in ("scales", "biases"))
            array = mx.dequantize(array, scales, biases, packing.group_size, packing.bits)
        if not name.endswith((".scales", ".biases")):
            expanded[name] = array.astype(mx.float32)
    return expanded
