"""Tensors in files that `torch.save` wrote, read without PyTorch and without unpickling.

A pickle is a program, and `pickle.load` runs it. Here the opcodes are only tokenised (`pickletools.genops`) and the few
that a state dict needs are interpreted below. Nothing callable is ever on the stack, so there is nothing to call: what
the pickle names as module and class stays a string, and a string that is not listed here is an error.

Formats: the zip archive of PyTorch >= 1.6 (`*/data.pkl` and `*/data/KEY`), and the older one of five pickles followed
by the storages (`torch.serialization._legacy_save`).
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np

from whisperx.checkpoints.tensors import (
    BFLOAT16,
    Array,
    Bytes,
    Tensor,
    as_array,
    checked_shape,
    checked_sizes,
    item_size,
    map_bytes,
    zip_directory,
    zip_member,
)
from whisperx.errors import CheckpointError

_MAX_PICKLE_BYTES = 16 << 20  # a thousand tensors take 200 kB
_MAX_NAME = 1000  # characters of "module name": two strings of the memo make a new one of any length, time and again
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001

_STORAGE_DTYPES = {
    "torch HalfStorage": "f2",
    "torch BFloat16Storage": BFLOAT16,
    "torch FloatStorage": "f4",
    "torch DoubleStorage": "f8",
    "torch BoolStorage": "b1",
    "torch ByteStorage": "u1",
    "torch CharStorage": "i1",
    "torch ShortStorage": "i2",
    "torch IntStorage": "i4",
    "torch LongStorage": "i8",
}

# What the checkpoints of PyTorch Lightning and pyannote.audio hold besides tensors, as beginnings of "module name".
LIGHTNING_OBJECTS = (
    "omegaconf.", "pyannote.", "lightning.", "lightning_fabric.", "pytorch_lightning.", "torch.torch_version ",
    "numpy", "_codecs encode", "argparse ", "pathlib ", "typing ", "collections defaultdict", "__builtin__ ",
)  # fmt: skip

# Gives the bytes of the storage with this key, which must be at least this many.
_StorageReader: TypeAlias = Callable[[str, int], Bytes]


@dataclass(frozen=True, slots=True)
class _Global:
    """What a pickle names as "module name"; never looked up."""

    name: str


@dataclass(eq=False, repr=False, slots=True)  # nested ones would be compared and written out without end
class Opaque:
    """Stands for an object that was not made: what the pickle calls it, would make it from, and would set on it."""

    name: str  # as "module name"
    arguments: Any
    state: Any = field(default=None)


@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of numbers that tensors are cut from."""

    key: str
    dtype: str
    n_items: int


_MARK = object()  # where the items of the next tuple, list or dict begin on the stack


def load_torch(path: Path, *, opaque: tuple[str, ...] = ()) -> Any:
    """What `torch.save` stored: dicts, lists, tuples, numbers and strings, with `Tensor` in place of tensors.

    opaque : objects whose "module name" begins with one of these are read as `Opaque`

    Raises CheckpointError when the file is broken, when a tensor reaches outside its storage, or when the pickle asks
    for anything but tensors in containers and what `opaque` lists. Nothing that the file names is imported or called.
    """
    data = map_bytes(path)
    if data[:4].tobytes() == b"PK\x03\x04":
        return _load_zip(path, data, opaque)
    return _load_legacy(path, data)


def _load_zip(path: Path, data: Bytes, opaque: tuple[str, ...]) -> Any:
    members = {info.filename: info for info in zip_directory(path)}
    folder = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
    if folder is None:
        raise CheckpointError(f"{path}: a zip archive, but without the data.pkl that torch.save writes")

    def member(name: str) -> Bytes:
        info = members.get(folder + name)
        if info is None or info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{path}: {folder}{name} is missing or compressed; torch.save stores it as it is")
        return zip_member(path, data, info)

    def read_storage(key: str, n_bytes: int) -> Bytes:
        storage = member(f"data/{key}")
        if storage.size < n_bytes:
            raise CheckpointError(f"{path}: storage {key} has {storage.size} bytes, expected {n_bytes}")
        return storage[:n_bytes]

    big_endian = folder + "byteorder" in members and member("byteorder").tobytes() == b"big"
    program = io.BytesIO(member("data.pkl")[:_MAX_PICKLE_BYTES].tobytes())
    return _Interpreter(path, read_storage, ">" if big_endian else "<", opaque).run(program)


def _load_legacy(path: Path, data: Bytes) -> Any:
    starts: dict[str, int] = {}

    def read_storage(key: str, n_bytes: int) -> Bytes:
        start = starts.get(key, data.size)
        storage = data[start : start + n_bytes]
        if storage.size < n_bytes:
            raise CheckpointError(f"{path}: storage {key} has {storage.size} bytes, expected {n_bytes}")
        return storage

    program = io.BytesIO(data[:_MAX_PICKLE_BYTES].tobytes())
    if _LEGACY_MAGIC.to_bytes(10, "little") not in program.getvalue()[:32]:
        raise CheckpointError(f"{path}: not a file of torch.save (whisper.cpp models cannot be read)")
    preamble = _Interpreter(path, read_storage, "<")
    _magic, version, system = preamble.run(program), preamble.run(program), preamble.run(program)
    if version != _LEGACY_VERSION or not isinstance(system, dict):
        raise CheckpointError(f"{path}: unknown version of torch.save; load it in PyTorch and save it again")
    interpreter = _Interpreter(path, read_storage, "<" if system.get("little_endian", True) else ">")
    root, keys = interpreter.run(program), interpreter.run(program)
    starts.update(_legacy_starts(path, keys, interpreter.storages, program.tell()))
    return root


def _legacy_starts(path: Path, keys: Any, storages: dict[str, _Storage], position: int) -> dict[str, int]:
    """Where in the file each storage's numbers begin: they follow one another, each after its length as an int64."""
    starts = {}
    for key in keys if isinstance(keys, list) else []:
        if not isinstance(key, str) or key not in storages:
            raise CheckpointError(f"{path}: the list of storages does not fit the tensors")
        starts[key] = position + 8
        position = starts[key] + storages[key].n_items * item_size(storages[key].dtype)
    return starts


class _Interpreter:
    """A stack machine for the opcodes that pickled state dicts consist of."""

    def __init__(self, path: Path, read_storage: _StorageReader, byte_order: str, opaque: tuple[str, ...] = ()) -> None:
        self.storages: dict[str, _Storage] = {}
        self._opaque = opaque
        self._path = path
        self._read_storage = read_storage
        self._byte_order = byte_order

    def run(self, program: IO[bytes]) -> Any:
        """The value of one pickle; leaves `program` behind its end."""
        stack: list[Any] = []
        memo: dict[int, Any] = {}
        try:
            for opcode, argument, _ in pickletools.genops(program):
                if opcode.name == "STOP":
                    return stack.pop()
                self._step(opcode.name, argument, stack, memo)
        except CheckpointError:
            raise
        except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{self._path}: broken or unsafe pickle: {error}") from error
        raise AssertionError("genops ends with STOP or raises")

    def _step(self, opcode: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "LONG4" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[opcode])
            case "MARK":
                stack.append(_MARK)
            case "TUPLE":
                stack.append(tuple(_pop_to_mark(stack)))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(_pop(stack, int(opcode[-1]))))
            case "APPEND":
                (item,) = _pop(stack, 1)
                _extend(stack[-1], [item])
            case "APPENDS":
                items = _pop_to_mark(stack)
                _extend(stack[-1], items)
            case "SETITEM":
                pair = _pop(stack, 2)
                _update(stack[-1], pair)
            case "SETITEMS":
                pairs = _pop_to_mark(stack)
                _update(stack[-1], pairs)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_Global(argument))
            case "STACK_GLOBAL":
                name = " ".join(_pop(stack, 2))
                if len(name) > _MAX_NAME:
                    raise ValueError(f"a name of {len(name)} characters")
                stack.append(_Global(name))
            case "BINPERSID":
                (identity,) = _pop(stack, 1)
                stack.append(self._storage(*identity))
            case "REDUCE" | "NEWOBJ":
                function, arguments = _pop(stack, 2)
                stack.append(self._build(function, arguments))
            case "BUILD":  # a state dict carries the version numbers of its modules as an attribute
                (state,) = _pop(stack, 1)
                if isinstance(stack[-1], Opaque):
                    stack[-1].state = state
                elif not isinstance(stack[-1], dict):
                    raise ValueError("it sets attributes")
            case _:
                raise ValueError(f"opcode {opcode} is not among those that build tensors")

    def _storage(
        self, kind: str, marker: _Global, key: str, _location: str, n_items: int, view: None = None
    ) -> _Storage:
        if kind != "storage" or view is not None or not isinstance(key, str):
            raise ValueError("a persistent id that is no plain storage")
        dtype = _STORAGE_DTYPES.get(marker.name)
        if dtype is None or (dtype == BFLOAT16 and self._byte_order == ">"):
            raise ValueError(f"a storage of type {marker.name!r:.100}, byte order {self._byte_order}")
        (n_items,) = checked_sizes([n_items])
        self.storages[key] = _Storage(key, dtype if dtype == BFLOAT16 else self._byte_order + dtype, n_items)
        return self.storages[key]

    def _build(self, function: Any, arguments: Any) -> Any:
        match function:
            case _Global("torch._utils _rebuild_tensor_v2" | "torch._utils _rebuild_tensor"):
                return self._tensor(*arguments[:4])
            case _Global("torch._utils _rebuild_parameter") if isinstance(arguments[0], Tensor):
                return arguments[0]
            case _Global("collections OrderedDict") if not arguments:
                return {}
            case _Global("collections defaultdict") if "collections defaultdict" in self._opaque:
                return {}
            case _Global(name) if name.startswith(self._opaque):
                return Opaque(name, arguments)
            case _Global(name):
                raise ValueError(f"it calls {name!r:.100}")
            case _:
                raise ValueError("it calls something that is no function")

    def _tensor(self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        shape, strides, (offset,) = checked_shape(size), checked_sizes(stride), checked_sizes([offset])
        n_items = math.prod(shape)
        end = (
            offset + 1 + sum((length - 1) * step for length, step in zip(shape, strides, strict=True)) if n_items else 0
        )
        if end > storage.n_items or n_items > storage.n_items:
            raise ValueError(f"a tensor of shape {shape} does not fit its storage of {storage.n_items} numbers")
        bytes_per_item = item_size(storage.dtype)

        def read() -> Array:
            if not n_items:
                return as_array(np.empty(0, dtype=np.uint8), storage.dtype).reshape(shape)
            stored = self._read_storage(storage.key, storage.n_items * bytes_per_item)
            items = as_array(stored[offset * bytes_per_item : end * bytes_per_item], storage.dtype)
            byte_strides = [step * items.itemsize for step in strides]
            return np.lib.stride_tricks.as_strided(items, shape, byte_strides, writeable=False)

        return Tensor(shape, storage.dtype, read)


def _pop(stack: list[Any], n_items: int) -> list[Any]:
    if len(stack) < n_items:
        raise ValueError("it takes from an empty stack")
    items = stack[-n_items:]
    del stack[-n_items:]
    return items


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _extend(target: Any, items: list[Any]) -> None:
    if not isinstance(target, list):
        raise ValueError("it appends to something that is no list")
    target.extend(items)


def _update(target: Any, items: list[Any]) -> None:
    # Keys are never tuples: hashing nested ones would take time that doubles with each level.
    if not isinstance(target, dict) or not all(isinstance(key, str | int) for key in items[::2]):
        raise ValueError("it sets items of something that is no dict, or under keys that are neither text nor integers")
    target.update(zip(items[::2], items[1::2], strict=True))
