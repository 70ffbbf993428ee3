"""The weights of a model folder or file, whatever their container."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whisperx.checkpoints.ctranslate2 import is_ctranslate2_file, open_ctranslate2
from whisperx.checkpoints.pytorch import load_torch
from whisperx.checkpoints.tensors import Tensor, map_bytes, open_npz, open_safetensors, parse_json
from whisperx.errors import CheckpointError, ModelNotFoundError

# In the order of preference, of downloads too. A folder with none of these may still have one `*.pt`.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "weights.safetensors",
    "weights.npz",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.bin",
)


@dataclass(frozen=True)
class Weights:
    """Tensors by name, and the dimensions that OpenAI's `.pt` files and CTranslate2's carry beside them."""

    tensors: dict[str, Tensor]
    dims: dict[str, int] = field(default_factory=dict)


def find_weights(path: Path) -> Path:
    """The weights file that `path` is or holds.

    Raises ModelNotFoundError when `path` is missing, CheckpointError when a folder has no weights that can be read.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise ModelNotFoundError(f"no such model folder or file: {path}")
    found = [path / name for name in WEIGHT_FILES if (path / name).is_file()] or sorted(path.glob("*.pt"))
    if not found:
        raise CheckpointError(f"{path} has no weights; expected one of {', '.join(WEIGHT_FILES)}, *.pt")
    if found[0].suffix == ".pt" and len(found) > 1:
        raise CheckpointError(f"{path} has several models; give one of {', '.join(str(file) for file in found)}")
    return found[0]


def open_weights(path: Path) -> Weights:
    """The tensors of a weights file, not yet read.

    Raises CheckpointError when the file is broken, unsafe or of an unknown kind.
    """
    opener = _OPENERS.get(path.suffix)
    if opener is None:
        raise CheckpointError(f"{path}: unknown kind of weights file; expected {', '.join(_OPENERS)}")
    return opener(path)


def read_json(path: Path) -> dict[str, Any]:
    """A file with one JSON object. Raises CheckpointError for anything else."""
    return parse_json(map_bytes(path).tobytes(), path)


def _open_bin(path: Path) -> Weights:
    """PyTorch's or CTranslate2's, which share the ending."""
    return Weights(*open_ctranslate2(path)) if is_ctranslate2_file(path) else _open_torch(path)


def _open_torch(path: Path) -> Weights:
    root = load_torch(path)
    state = root.get("model_state_dict", root) if isinstance(root, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: expected a dict of tensors, or one with dims and model_state_dict")
    tensors = {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, Tensor)}
    dims = root.get("dims")
    return Weights(tensors, _whole_numbers(dims) if isinstance(dims, dict) else {})


def _whole_numbers(settings: Mapping[Any, Any]) -> dict[str, int]:
    return {name: value for name, value in settings.items() if isinstance(name, str) and type(value) is int}


def _open_shards(index_path: Path) -> Weights:
    weight_map = read_json(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(_is_shard_name(name) for name in weight_map.values()):
        raise CheckpointError(f"{index_path}: expected a weight_map of tensor names to file names in the same folder")
    shards = [index_path.parent / name for name in sorted(set(weight_map.values()))]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise CheckpointError(f"{index_path.parent} lacks {', '.join(missing)}; download the model again")
    return Weights({name: tensor for shard in shards for name, tensor in open_weights(shard).tensors.items()})


def _is_shard_name(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and not name.endswith(".json")


_OPENERS: dict[str, Callable[[Path], Weights]] = {
    ".safetensors": lambda path: Weights(open_safetensors(path)),
    ".npz": lambda path: Weights(open_npz(path)),
    ".pt": _open_torch,
    ".pth": _open_torch,
    ".bin": _open_bin,
    ".json": _open_shards,
}
