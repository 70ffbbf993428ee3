"""Named tensors in files, opened without reading their numbers: safetensors and npz.

A file is mapped into memory and only its directory is read, so opening gigabytes takes milliseconds and nothing is
decompressed before somebody has looked at the shape. PyTorch's formats are in `pytorch.py`.
"""

import ast
import json
import math
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from whisperx.errors import CheckpointError

Array: TypeAlias = npt.NDArray[Any]
Bytes: TypeAlias = npt.NDArray[np.uint8]

BFLOAT16 = "bfloat16"  # NumPy has no such type, so these are read as float32
MAX_PARAMETERS = 2_500_000_000  # XLS-R has 2.2 billion, Whisper 1.55; a file that claims more is not decompressed

_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format
_SAFETENSORS_DTYPES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "BF16": BFLOAT16, "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_MAX_NPY_HEADER_BYTES = 1 << 16
_NPY_BFLOAT16 = ("|V2", "<V2")  # MLX writes two opaque bytes
_ZIP_LOCAL_HEADER_BYTES = 30
_MAX_AXES, _MAX_ITEM_BYTES = 64, 8  # of NumPy's arrays, and of the types above
_FLOAT_DTYPES = ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", BFLOAT16)
_PACKED_DTYPES = ("<u4",)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor in a file. Its shape and type are known; its numbers are fetched by `read()`."""

    shape: tuple[int, ...]
    dtype: str  # as NumPy writes it, such as "<f2", or "bfloat16"
    read: Callable[[], Array]  # memory-mapped and read-only where the file allows; bfloat16 becomes float32


def read_expected(
    path: Path,
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    packed: Collection[str] = (),
    max_parameters: int = MAX_PARAMETERS,
) -> dict[str, Array]:
    """The tensors that a network asks for, all of them looked at before the numbers of one are read.

    packed : names of those that hold uint32; the others hold floating point
    max_parameters : of all together

    Raises CheckpointError, with the file and the tensor, for one that is missing or of another shape or type.
    """
    for name, shape in shapes.items():
        if name not in tensors:
            raise CheckpointError(f"{path}: tensor {name} of shape {shape} is missing")
        if tensors[name].shape != shape:
            raise CheckpointError(f"{path}: tensor {name} has shape {tensors[name].shape}, expected {shape}")
        expected = "uint32" if name in packed else "floating point"
        if tensors[name].dtype not in (_PACKED_DTYPES if name in packed else _FLOAT_DTYPES):
            raise CheckpointError(f"{path}: tensor {name} has type {tensors[name].dtype}, expected {expected}")
    if sum(math.prod(shape) for shape in shapes.values()) > max_parameters:
        raise CheckpointError(f"{path} claims more than {max_parameters} parameters, as no network of its kind has")
    return {name: tensors[name].read() for name in shapes}


def open_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises CheckpointError when the file is broken or has a type NumPy cannot hold."""
    data = map_bytes(path)
    header_bytes = int(data[:8].view("<u8")[0]) if data.size >= 8 else 0
    if not 2 <= header_bytes <= min(_MAX_HEADER_BYTES, data.size - 8):
        raise CheckpointError(f"{path}: not a safetensors file, or cut short")
    header = parse_json(data[8 : 8 + header_bytes].tobytes(), path)
    body = data[8 + header_bytes :]
    return {
        name: _safetensors_entry(path, name, entry, body) for name, entry in header.items() if name != "__metadata__"
    }


def _safetensors_entry(path: Path, name: str, entry: Any, body: Bytes) -> Tensor:
    try:
        dtype_name, shape, (begin, end) = (
            entry["dtype"],
            checked_shape(entry["shape"]),
            checked_sizes(entry["data_offsets"]),
        )
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: the header's entry for {name!r} is broken") from error
    dtype = _SAFETENSORS_DTYPES.get(str(dtype_name))
    if dtype is None:
        raise CheckpointError(
            f"{path}: {name} has type {dtype_name!r:.40}, expected one of {', '.join(_SAFETENSORS_DTYPES)}"
        )
    if not begin <= end <= body.size or end - begin != math.prod(shape) * item_size(dtype):
        raise CheckpointError(f"{path}: {name} lies outside the file or does not fill its shape {shape}")
    return Tensor(shape, dtype, lambda: as_array(body[begin:end], dtype).reshape(shape))


def open_npz(path: Path) -> dict[str, Tensor]:
    """Arrays of an npz file, compressed or not. Raises CheckpointError when it is broken or holds pickled objects."""
    data = map_bytes(path)
    return {
        info.filename.removesuffix(".npy"): _npz_entry(path, data, info)
        for info in zip_directory(path)
        if info.filename.endswith(".npy")
    }


def _npz_entry(path: Path, data: Bytes, info: zipfile.ZipInfo) -> Tensor:
    try:
        dtype, fortran_order, shape, begin = _npy_header(
            zip_member(path, data, info, limit=_MAX_NPY_HEADER_BYTES).tobytes()
        )
    except (ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: {info.filename} is not an array of numbers") from error
    end = begin + math.prod(shape) * item_size(dtype)
    if end != info.file_size:
        raise CheckpointError(f"{path}: {info.filename} does not fill its shape {shape}")

    def read() -> Array:
        array = as_array(zip_member(path, data, info)[begin:end], dtype)
        return array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)

    return Tensor(shape, dtype, read)


def _npy_header(start: bytes) -> tuple[str, bool, tuple[int, ...], int]:
    """Type, order, shape and length of the header (numpy.lib.format), read strictly: NumPy's own reader is lenient."""
    if start[:6] != b"\x93NUMPY":
        raise ValueError("no npy magic")
    begin = 10 if start[6] == 1 else 12  # the length takes two bytes in version 1, four from version 2 on
    end = begin + int.from_bytes(start[8:begin], "little")
    header = ast.literal_eval(start[begin:end].decode("latin-1"))
    descr = header["descr"]
    if descr in _NPY_BFLOAT16:
        dtype = BFLOAT16
    elif isinstance(descr, str) and re.fullmatch(r"[<>|][biuf]\d", descr):
        dtype = np.dtype(descr).str
    else:
        raise ValueError("not a type of numbers")
    return dtype, bool(header["fortran_order"]), checked_shape(header["shape"]), end


def map_bytes(path: Path) -> Bytes:
    """The file's bytes, uint8 `(n_bytes,)`, memory-mapped and read-only."""
    try:
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path} is empty")
        data: Bytes = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if data[:23].tobytes() == b"version https://git-lfs":
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder")
    return data


def as_array(data: Bytes, dtype: str) -> Array:
    """Bytes as numbers in the machine's byte order, `(n,)`: a view where possible, else a copy; bfloat16 as float32."""
    if dtype == BFLOAT16:
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)  # the upper half of a float32
    array = np.require(data.view(dtype), requirements=["ALIGNED"])
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def item_size(dtype: str) -> int:
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def checked_sizes(sizes: Sequence[Any]) -> tuple[int, ...]:
    """Sizes as a tuple. Raises ValueError when one is not an integer or is negative."""
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError("sizes must be integers from 0 up")  # without them: they may be anything, of any length
    return tuple(sizes)


def checked_shape(sizes: Sequence[Any]) -> tuple[int, ...]:
    """A shape that NumPy can hold, as a tuple. Raises ValueError for any other."""
    shape = checked_sizes(sizes)
    if len(shape) > _MAX_AXES or math.prod(size or 1 for size in shape) > sys.maxsize // _MAX_ITEM_BYTES:
        raise ValueError("no array has so many axes or numbers")
    return shape


def parse_json(text: bytes, path: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError, naming the file, for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: broken JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def zip_directory(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise CheckpointError(f"{path}: broken zip archive: {error}") from error


def zip_member(path: Path, data: Bytes, info: zipfile.ZipInfo, limit: int | None = None) -> Bytes:
    """Bytes of an archive's member, at most `limit` of them: a view where it is stored, never more than it declares.

    data : the archive's bytes, as `map_bytes` returns them
    """
    local_header = data[info.header_offset : info.header_offset + _ZIP_LOCAL_HEADER_BYTES]
    if local_header.size < _ZIP_LOCAL_HEADER_BYTES:
        raise CheckpointError(f"{path}: {info.filename} lies outside the archive")
    # Two lengths at bytes 26 and 28: the name and the extra field, which may differ from those in the directory.
    start = info.header_offset + _ZIP_LOCAL_HEADER_BYTES + int(local_header[26:30].view("<u2").sum())
    packed = data[start : start + info.compress_size]
    if packed.size != info.compress_size or info.flag_bits & 1:
        raise CheckpointError(f"{path}: {info.filename} is encrypted or lies outside the archive")
    size = info.file_size if limit is None else min(limit, info.file_size)
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size:
        return packed[:size]
    if info.compress_type != zipfile.ZIP_DEFLATED:
        raise CheckpointError(f"{path}: {info.filename} is compressed in a way that cannot be read")
    try:
        unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed.data, max_length=size)
    except zlib.error as error:
        raise CheckpointError(f"{path}: {info.filename} is broken: {error}") from error
    if len(unpacked) != size or (limit is None and zlib.crc32(unpacked) != info.CRC):
        raise CheckpointError(f"{path}: {info.filename} is broken: its size or checksum differs")
    return np.frombuffer(unpacked, dtype=np.uint8)
