"""What weights are kept in: floating point, or whole numbers of few bits with a scale for each group of them."""

import logging
from dataclasses import dataclass

import mlx.core as mx

from whisperx.checkpoints import Quantization
from whisperx.errors import OptionError

logger = logging.getLogger(__name__)

DTYPES = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}
GROUP_SIZE = 64  # weights that share a scale: half a bit more for each weight


@dataclass(frozen=True)
class ComputeType:
    """What the weights of a network are rounded to.

    Only linear layers are quantised. The token embedding is not: it decides between tokens that are nearly as likely.
    """

    dtype: mx.Dtype  # of all that is not quantised, and of the scales of what is
    quantization: Quantization | None = None


_INT8_FLOAT16 = ComputeType(mx.float16, Quantization(GROUP_SIZE, 8))
_NAMED = {
    **{name: ComputeType(dtype) for name, dtype in DTYPES.items()},
    "int8": _INT8_FLOAT16,
    "int4": ComputeType(mx.float16, Quantization(GROUP_SIZE, 4)),
    "int8_float16": _INT8_FLOAT16,
    "int8_bfloat16": ComputeType(mx.bfloat16, Quantization(GROUP_SIZE, 8)),
    "int8_float32": ComputeType(mx.float32, Quantization(GROUP_SIZE, 8)),
}
# CTranslate2's names without an equal here -> the nearest there is.
_NEAREST = {"auto": "default", "int16": "default"}

COMPUTE_TYPES = ("default", "auto", *_NAMED, "int16")


def find_compute_type(name: str, device: mx.Device, stored: Quantization | None = None) -> ComputeType:
    """What to round weights to for a compute type by name, ours and CTranslate2's.

    stored : how the model is quantised as it lies on disk; "default" leaves it so

    Raises OptionError for an unknown name, and for unquantised weights of 16 bits on a CPU.
    """
    if name not in COMPUTE_TYPES:
        raise OptionError(f"Unknown compute_type: {name}; expected one of {', '.join(COMPUTE_TYPES)}.")
    if name in ("float16", "bfloat16") and device == mx.cpu:
        raise OptionError(
            f"compute_type {name} is not supported on a CPU, which multiplies 16-bit numbers 50 times slower "
            "than float32. Use float32 or default."
        )
    found = _NAMED.get(name) or ComputeType(mx.float32 if device == mx.cpu else mx.float16, stored)
    if stored is not None and found.quantization is not None and found.quantization.bits == stored.bits:
        found = ComputeType(found.dtype, stored)  # rounded once, whatever the size of the groups
    if name in _NEAREST or name.startswith("int8_"):
        logger.info("compute_type %s: weights are kept as %s", name, described(found))
    elif found.quantization != stored and stored is not None:
        logger.info("the model's %d-bit weights are converted to %s", stored.bits, described(found))
    if found.quantization is not None and device == mx.cpu:
        asked_for = found.quantization != stored
        (logger.warning if asked_for else logger.info)(
            "weights of %d bits are expanded to float32: a CPU multiplies packed ones slowly, so that compute_type %s "
            "saves neither time nor memory there",
            found.quantization.bits,
            name,
        )
    return found


def described(compute_type: ComputeType) -> str:
    """In words, as "8-bit numbers in groups of 64, the rest float16"."""
    dtype = next(name for name, dtype in DTYPES.items() if dtype == compute_type.dtype)
    packing = compute_type.quantization
    return (
        dtype if packing is None else f"{packing.bits}-bit numbers in groups of {packing.group_size}, the rest {dtype}"
    )
