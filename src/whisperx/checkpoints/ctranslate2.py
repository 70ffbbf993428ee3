"""CTranslate2's `model.bin`, opened without reading its numbers and without CTranslate2.

Layout, from `ModelSpec._serialize` in OpenNMT/CTranslate2, `python/ctranslate2/specs/model_spec.py` (little-endian; a
string is a uint16 length, its bytes and a zero that the length counts):

    uint32 version, string model, uint32 revision, uint32 n, n variables, uint32 m, m pairs of strings (name, name)

and a variable is `string name, uint8 rank, uint32 size per axis, uint8 type, uint32 n_bytes, the numbers`. Every
Whisper has version 6: older ones are from before CTranslate2 knew it.
"""

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from whisperx.checkpoints.tensors import BFLOAT16, Array, Bytes, Tensor, as_array, checked_shape, item_size, map_bytes
from whisperx.errors import CheckpointError

_VERSION = 6
_NEWEST_IMAGINABLE = 31  # so that a version is told from the first bytes of other files
_MODEL = "WhisperSpec"
_DTYPES = ("<f4", "|i1", "<i2", "<i4", "<f2", BFLOAT16)  # in the order of CTranslate2's types

# What CTranslate2 calls a part -> our names; several where it has joined matrices, row under row.
_PARTS = {
    "encoder/conv1": ("encoder.conv1",),
    "encoder/conv2": ("encoder.conv2",),
    "encoder/layer_norm": ("encoder.ln_post",),
    "decoder/embeddings": ("decoder.token_embedding",),
    "decoder/layer_norm": ("decoder.ln",),
}
_PARTS_OF_A_LAYER = {
    "self_attention/layer_norm": ("attn_ln",),
    "self_attention/linear_0": ("attn.query", "attn.key", "attn.value"),
    "self_attention/linear_1": ("attn.out",),
    "attention/layer_norm": ("cross_attn_ln",),
    "attention/linear_0": ("cross_attn.query",),
    "attention/linear_1": ("cross_attn.key", "cross_attn.value"),
    "attention/linear_2": ("cross_attn.out",),
    "ffn/layer_norm": ("mlp_ln",),
    "ffn/linear_0": ("mlp1",),
    "ffn/linear_1": ("mlp2",),
}
_LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
_POSITIONS = "position_encodings/encodings"
_HEADS = {"encoder/num_heads": "n_audio_head", "decoder/num_heads": "n_text_head"}


@dataclass(frozen=True, slots=True)
class _Variable:
    shape: tuple[int, ...]
    dtype: str
    data: Bytes

    def read(self) -> Array:
        return as_array(self.data, self.dtype).reshape(self.shape)

    def split(self, n: int) -> list["_Variable"]:
        """The matrices, or biases, that were joined to this one. Raises ValueError where they would not be alike."""
        if n == 1:
            return [self]
        if not self.shape or self.shape[0] % n:
            raise ValueError
        shape, n_bytes = (self.shape[0] // n, *self.shape[1:]), self.data.size // n
        return [_Variable(shape, self.dtype, self.data[i * n_bytes : (i + 1) * n_bytes]) for i in range(n)]


def is_ctranslate2_file(path: Path) -> bool:
    """Whether a file begins as CTranslate2's do, of any version."""
    start = map_bytes(path)[:4].tobytes()
    return len(start) == 4 and 0 < int.from_bytes(start, "little") <= _NEWEST_IMAGINABLE


def open_ctranslate2(path: Path) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Tensors of a Whisper converted for CTranslate2, under OpenAI's names, and its numbers of heads.

    Weights of 8 or 16 bits with a scale beside them are read as float32.

    Raises CheckpointError when the file is broken, of another version, or no Whisper.
    """
    try:
        variables = _variables(path)
        tensors = dict(_tensors(variables))
        heads = {ours: int(variables[name].read()) for name, ours in _HEADS.items() if name in variables}
    except (ValueError, KeyError, TypeError, struct.error) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: a CTranslate2 model that is broken, or cut short") from error
    return tensors, heads


def generation_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the config.json beside a `model.bin` says, under the names of Hugging Face's generation_config.json."""
    names = {"suppress_ids": "suppress_tokens", "suppress_ids_begin": "begin_suppress_tokens"}
    return {ours: config[theirs] for theirs, ours in names.items() if theirs in config}


def _variables(path: Path) -> dict[str, _Variable]:
    data, position = map_bytes(path), 0

    def take(n_bytes: int) -> Bytes:
        nonlocal position
        if n_bytes > data.size - position:
            raise ValueError
        position += n_bytes
        return data[position - n_bytes : position]

    def number(kind: str) -> int:
        (value,) = struct.unpack(kind, take(struct.calcsize(kind)).tobytes())
        return int(value)

    def string() -> str:
        return take(number("<H")).tobytes().rstrip(b"\0").decode("utf-8")

    version = number("<I")
    if version != _VERSION:
        raise CheckpointError(f"{path}: a CTranslate2 model of version {version}, expected {_VERSION}; convert it anew")
    model = string()
    if model != _MODEL:
        raise CheckpointError(f"{path}: a CTranslate2 model of the kind {model!r:.40}, expected {_MODEL}, a Whisper")
    number("<I")  # the revision: 3 in all that were published, and only additions so far
    variables = {}
    for _ in range(number("<I")):
        name = string()
        shape = checked_shape([number("<I") for _ in range(number("<B"))])
        kind, n_bytes = number("<B"), number("<I")
        if kind >= len(_DTYPES) or n_bytes != math.prod(shape) * item_size(_DTYPES[kind]):
            raise ValueError
        variables[name] = _Variable(shape, _DTYPES[kind], take(n_bytes))
    for _ in range(number("<I")):  # arrays that are equal are stored once
        other_name = string()
        variables[other_name] = variables[string()]
    return variables


def _tensors(variables: Mapping[str, _Variable]) -> Iterator[tuple[str, Tensor]]:
    for name, variable in variables.items():
        if name.endswith(_POSITIONS):
            yield name.replace(f"/{_POSITIONS}", ".positional_embedding"), _tensor(variable, None)
            continue
        part, _, leaf = name.rpartition("/")
        targets = _names_of(part)
        if leaf not in _LEAVES or not targets:
            continue
        scale = variables.get(f"{name}_scale")
        scales = [scale] * len(targets) if scale is None or not scale.shape else scale.split(len(targets))
        for target, own, own_scale in zip(targets, variable.split(len(targets)), scales, strict=True):
            yield f"{target}.{_LEAVES[leaf]}", _tensor(own, own_scale)


def _names_of(part: str) -> tuple[str, ...]:
    match = re.fullmatch(r"(encoder|decoder)/layer_(\d{1,4})/(.+)", part)
    if match is None:
        return _PARTS.get(part, ())
    return tuple(f"{match[1]}.blocks.{match[2]}.{name}" for name in _PARTS_OF_A_LAYER.get(match[3], ()))


def _tensor(variable: _Variable, scale: _Variable | None) -> Tensor:
    if scale is None:
        return Tensor(variable.shape, variable.dtype, variable.read)
    if scale.shape not in ((), variable.shape[:1]):
        raise ValueError
    return Tensor(variable.shape, "<f4", lambda: _expanded(variable, scale))


def _expanded(variable: _Variable, scale: _Variable) -> npt.NDArray[np.float32]:
    """Whole numbers as what they stand for: divided by the scale, one of each row or (16 bits) one of all."""
    numbers = variable.read().astype(np.float32)
    scales = scale.read().astype(np.float32)
    expanded: npt.NDArray[np.float32] = numbers / scales.reshape(scales.shape + (1,) * (numbers.ndim - scales.ndim))
    return expanded
