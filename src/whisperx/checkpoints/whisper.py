"""A Whisper checkpoint in any of its layouts, as NumPy arrays under one set of names.

The names are OpenAI's with `mlp.0` and `mlp.2` called `mlp1` and `mlp2`; convolution weights are `[out, kernel, in]`,
both as MLX has them. `expected_shapes` lists them all.
"""

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from whisperx.checkpoints import ctranslate2
from whisperx.checkpoints.alignment_heads import Heads, choose_alignment_heads
from whisperx.checkpoints.dimensions import WhisperDimensions
from whisperx.checkpoints.tensors import BFLOAT16, Array, Tensor, read_expected
from whisperx.checkpoints.weights import find_weights, open_weights, read_json
from whisperx.errors import CheckpointError

logger = logging.getLogger(__name__)

HEAD_DIM = 64  # of every published Whisper
N_AUDIO_CTX = 1500  # frames of 20 ms in 30 s
CONV_KERNEL = 3

_HF_CONFIG_KEYS = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}
_UNSEEN_SIZES = ("n_audio_head", "n_text_head")  # no tensor's shape tells them
_HF_NAMES = {
    "layers": "blocks",
    "self_attn": "attn",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn": "cross_attn",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "final_layer_norm": "mlp_ln",
    "fc1": "mlp1",
    "fc2": "mlp2",
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "out_proj": "out",
    "embed_tokens": "token_embedding",
}
_POSITIONS = "encoder.positional_embedding"
_TOKENS = "decoder.token_embedding.weight"
_PROJECTION = "proj_out.weight"
_HEADS = "alignment_heads"


@dataclass(frozen=True)
class Quantization:
    """How MLX packed the weights that have `.scales` and `.biases` beside them."""

    group_size: int  # weights that share a scale and a bias
    bits: int  # of each packed weight


@dataclass(frozen=True)
class Checkpoint:
    """A Whisper model as it lies on disk; read-only arrays, memory-mapped where the container allows."""

    dims: WhisperDimensions
    arrays: dict[str, Array]  # under the names of `expected_shapes`; float16, float32 or float64, packed ones uint32
    alignment_heads: Heads  # the cross-attention heads that follow the sound
    quantization: Quantization | None
    config: dict[str, Any]  # config.json, empty where there is none
    generation_config: dict[str, Any]  # generation_config.json, or what CTranslate2's config.json says of it


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a Whisper model from a folder or a weights file.

    The dimensions come from the configuration or, where it is missing or silent, from the shapes of the weights; where
    both speak they must agree.

    Raises ModelNotFoundError when nothing is there; CheckpointError when the files are broken, unsafe, of another kind
    of model, or when a tensor is missing or has another shape than the dimensions ask for.
    """
    weights_path = find_weights(path)
    config = _json_beside(weights_path, "config.json")
    generation_config = _json_beside(weights_path, "generation_config.json") or ctranslate2.generation_config(config)
    weights = open_weights(weights_path)

    tensors = _renamed(weights.tensors)
    projection = tensors.pop(_PROJECTION, None)
    if projection is not None:
        tensors.setdefault(_TOKENS, projection)  # tied, and stored once under either name
    dims = _dimensions(weights_path, config | weights.dims, tensors)
    quantization = _quantization(weights_path, config)
    arrays = _read_weights(weights_path, dims, quantization, tensors)
    if projection is not None:
        _check_tied(weights_path, config, projection, arrays[_TOKENS])
    arrays |= _own_positions(weights_path, dims, tensors.get(_POSITIONS))
    heads = choose_alignment_heads(
        dims,
        name=f"{weights_path} {config.get('_name_or_path')}",
        configured=generation_config.get(_HEADS),
        stored=config.get(_HEADS) or _stored_heads(dims, tensors.get(_HEADS)),
    )
    return Checkpoint(dims, arrays, heads, quantization, config, generation_config)


def expected_shapes(dims: WhisperDimensions) -> dict[str, tuple[int, ...]]:
    """Every tensor of a Whisper with its shape. The encoder's positions are sinusoids, and so not among them."""
    audio, text = dims.n_audio_state, dims.n_text_state
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.conv1.weight": (audio, CONV_KERNEL, dims.n_mels),
        "encoder.conv1.bias": (audio,),
        "encoder.conv2.weight": (audio, CONV_KERNEL, audio),
        "encoder.conv2.bias": (audio,),
    }
    for layer in range(dims.n_audio_layer):
        shapes |= _block_shapes(f"encoder.blocks.{layer}", audio, attentions=("attn",))
    shapes |= _norm_shapes("encoder.ln_post", audio)
    shapes |= {_TOKENS: (dims.n_vocab, text), "decoder.positional_embedding": (dims.n_text_ctx, text)}
    for layer in range(dims.n_text_layer):
        shapes |= _block_shapes(f"decoder.blocks.{layer}", text, attentions=("attn", "cross_attn"))
    return shapes | _norm_shapes("decoder.ln", text)


def _block_shapes(prefix: str, state: int, attentions: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for attention in attentions:
        for linear in ("query", "key", "value", "out"):
            shapes[f"{prefix}.{attention}.{linear}.weight"] = (state, state)
            if linear != "key":  # a bias of the keys would add the same to all scores of a query
                shapes[f"{prefix}.{attention}.{linear}.bias"] = (state,)
        shapes |= _norm_shapes(f"{prefix}.{attention}_ln", state)
    shapes |= {f"{prefix}.mlp1.weight": (4 * state, state), f"{prefix}.mlp1.bias": (4 * state,)}
    shapes |= {f"{prefix}.mlp2.weight": (state, 4 * state), f"{prefix}.mlp2.bias": (state,)}
    return shapes | _norm_shapes(f"{prefix}.mlp_ln", state)


def _norm_shapes(prefix: str, state: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (state,), f"{prefix}.bias": (state,)}


def dequantize(weight: Array, scales: Array, biases: Array, group_size: int, bits: int) -> npt.NDArray[np.float32]:
    """Unpack weights that MLX quantised: `scale * q + bias` for each group, as `mx.dequantize` does.

    weight : uint32 `(rows, columns * bits / 32)`, packed from the lowest bit up; bits from 2 to 8
    scales, biases : `(rows, columns / group_size)`, floating point

    Returns float32 `(rows, columns)`.
    """
    rows = weight.shape[0]
    # Eight packed numbers fill exactly `bits` bytes: each such piece becomes one integer, shifted eight times.
    pieces = np.ascontiguousarray(weight).view(np.uint8).reshape(rows, -1, bits).astype(np.uint64)
    joined = (pieces << (8 * np.arange(bits, dtype=np.uint64))).sum(axis=-1, dtype=np.uint64)  # (rows, columns / 8)
    shifts = bits * np.arange(8, dtype=np.uint64)
    numbers = (joined[..., None] >> shifts) & np.uint64(2**bits - 1)  # (rows, columns / 8, 8)
    groups: npt.NDArray[np.float32] = numbers.astype(np.float32).reshape(rows, -1, group_size)
    groups = groups * scales.astype(np.float32)[..., None] + biases.astype(np.float32)[..., None]
    return groups.reshape(rows, -1)


def sinusoids(length: int, channels: int) -> npt.NDArray[np.float32]:
    """The encoder's positions, `(length, channels)`: sines, then cosines, of wavelengths up to 10000 (Vaswani 2017)."""
    rates = np.exp(-np.log(10000) / (channels // 2 - 1) * np.arange(channels // 2))
    angles = np.arange(length)[:, None] * rates
    positions: npt.NDArray[np.float64] = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return positions.astype(np.float32)


def _json_beside(weights_path: Path, name: str) -> dict[str, Any]:
    path = weights_path.parent / name
    return read_json(path) if path.is_file() else {}


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        new_name = _canonical_name(name)
        if re.fullmatch(r"encoder\.conv[12]\.weight", new_name):
            tensor = _kernel_in_the_middle(tensor)
        renamed[new_name] = tensor
    return renamed


def _canonical_name(name: str) -> str:
    """`model.encoder.layers.0.self_attn.q_proj.weight` (Hugging Face) -> `encoder.blocks.0.attn.query.weight`."""
    name = name.removeprefix("model.").replace(".mlp.0.", ".mlp1.").replace(".mlp.2.", ".mlp2.")
    name = name.replace("embed_positions.weight", "positional_embedding")
    name = re.sub(r"^encoder\.layer_norm\.", "encoder.ln_post.", name)
    name = re.sub(r"^decoder\.layer_norm\.", "decoder.ln.", name)
    return ".".join(_HF_NAMES.get(part, part) for part in name.split("."))


def _kernel_in_the_middle(tensor: Tensor) -> Tensor:
    """`[out, in, kernel]` (PyTorch) -> `[out, kernel, in]` (MLX), told apart by the kernel's length."""
    if len(tensor.shape) != 3 or tensor.shape[1] == CONV_KERNEL:
        return tensor
    out_channels, in_channels, kernel = tensor.shape
    return Tensor((out_channels, kernel, in_channels), tensor.dtype, lambda: tensor.read().transpose(0, 2, 1))


def _dimensions(path: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> WhisperDimensions:
    measured = _sizes_from_shapes(path, tensors)
    configured = {name: config[key] for name in measured for key in (name, _HF_CONFIG_KEYS[name]) if key in config}
    for name, size in configured.items():
        seen = name not in _UNSEEN_SIZES and (name != "n_audio_ctx" or _POSITIONS in tensors)
        if type(size) is not int or size < 1 or (seen and size != measured[name]):
            raise CheckpointError(f"{path}: the configuration says {name} {size!r:.20}, the weights {measured[name]}")
    dims = WhisperDimensions(**(measured | configured))
    if dims.n_audio_state % dims.n_audio_head or dims.n_text_state % dims.n_text_head:
        raise CheckpointError(f"{path}: the attention heads do not divide the width of the network: {dims}")
    return dims


def _sizes_from_shapes(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Dimensions read off the tensors that are never quantised, and the heads from their fixed width."""

    def shape(name: str, n_axes: int) -> tuple[int, ...]:
        if name not in tensors or len(tensors[name].shape) != n_axes:
            raise CheckpointError(f"{path} is no Whisper checkpoint: {name} is missing or has another shape")
        return tensors[name].shape

    audio_state, _, n_mels = shape("encoder.conv1.weight", 3)
    n_text_ctx, text_state = shape("decoder.positional_embedding", 2)
    return {
        "n_mels": n_mels,
        "n_audio_ctx": shape(_POSITIONS, 2)[0] if _POSITIONS in tensors else N_AUDIO_CTX,
        "n_audio_state": audio_state,
        "n_audio_head": max(1, audio_state // HEAD_DIM),
        "n_audio_layer": _count_layers("encoder", tensors),
        "n_vocab": shape(_TOKENS, 2)[0],
        "n_text_ctx": n_text_ctx,
        "n_text_state": text_state,
        "n_text_head": max(1, text_state // HEAD_DIM),
        "n_text_layer": _count_layers("decoder", tensors),
    }


def _count_layers(part: str, tensors: Mapping[str, Tensor]) -> int:
    found = (re.match(rf"{part}\.blocks\.(\d{{1,4}})\.", name) for name in tensors)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _quantization(path: Path, config: Mapping[str, Any]) -> Quantization | None:
    settings = config.get("quantization")
    if settings is None:
        return None
    if not isinstance(settings, dict) or settings.get("mode", "affine") != "affine":
        raise CheckpointError(f"{path}: unknown quantization {settings!r:.100}; expected affine group_size and bits")
    group_size, bits = settings.get("group_size"), settings.get("bits")
    if group_size not in (32, 64, 128) or bits not in (2, 3, 4, 5, 6, 8):
        raise CheckpointError(
            f"{path}: cannot read quantization group_size {group_size!r}, bits {bits!r}; "
            "expected group_size 32, 64 or 128 and bits 2, 3, 4, 5, 6 or 8"
        )
    return Quantization(group_size, bits)


def _read_weights(
    path: Path, dims: WhisperDimensions, quantization: Quantization | None, tensors: Mapping[str, Tensor]
) -> dict[str, Array]:
    expected = expected_shapes(dims)
    for name in [name for name in expected if name.removesuffix("weight") + "scales" in tensors]:
        if quantization is None:
            raise CheckpointError(f"{path}: {name} is quantised, but config.json has no quantization entry")
        expected |= _packed_shapes(name, expected[name], quantization)
    for name in tensors.keys() - expected.keys() - {_POSITIONS, _HEADS}:
        logger.debug("%s: ignoring unknown tensor %s", path, name)
    packed = {name for name in expected if name.removesuffix("weight") + "scales" in expected}
    return read_expected(path, tensors, expected, packed=packed)


def _packed_shapes(name: str, shape: tuple[int, ...], quantization: Quantization) -> dict[str, tuple[int, ...]]:
    rows, columns = shape
    stem = name.removesuffix("weight")
    groups = (rows, columns // quantization.group_size)
    return {name: (rows, columns * quantization.bits // 32), f"{stem}scales": groups, f"{stem}biases": groups}


def _check_tied(path: Path, config: Mapping[str, Any], projection: Tensor, tokens: Array) -> None:
    if not config.get("tie_word_embeddings", True) and not np.array_equal(projection.read(), tokens):
        raise CheckpointError(f"{path}: {_PROJECTION} differs from the token embedding; every Whisper shares the two")


def _own_positions(path: Path, dims: WhisperDimensions, stored: Tensor | None) -> dict[str, Array]:
    """The encoder's positions where they are not the sinusoids up to rounding, that is, where they were fine-tuned."""
    if stored is None:
        return {}
    shape = (dims.n_audio_ctx, dims.n_audio_state)
    if stored.shape != shape:
        raise CheckpointError(f"{path}: tensor {_POSITIONS} has shape {stored.shape}, expected {shape}")
    positions = stored.read()
    rounding = 4e-3 if stored.dtype == BFLOAT16 else 1e-3
    if np.allclose(positions, sinusoids(*shape), rtol=0, atol=rounding):
        return {}
    logger.debug("%s: the encoder's positions are not the sinusoids and are kept", path)
    return {_POSITIONS: positions}


def _stored_heads(dims: WhisperDimensions, stored: Tensor | None) -> Array | None:
    """MLX's `alignment_heads`, not read where there are more than the decoder has."""
    if stored is None or math.prod(stored.shape) > 2 * dims.n_text_layer * dims.n_text_head:
        return None
    return stored.read()
