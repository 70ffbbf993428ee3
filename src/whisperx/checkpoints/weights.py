"""The weights of a model folder or file, whatever their container."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from whisperx.checkpoints.tensors import Tensor, map_bytes, open_npz, open_safetensors, parse_json
from whisperx.errors import CheckpointError, ModelNotFoundError

# In the order of preference: never a pickle where the same folder has something better.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "weights.safetensors",
    "weights.npz",
)
_OPENERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".safetensors": open_safetensors,
    ".npz": open_npz,
}


def find_weights(path: Path) -> Path:
    """The weights file that `path` is or holds.

    Raises ModelNotFoundError when `path` is missing, CheckpointError when a folder has no weights that can be read.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise ModelNotFoundError(f"no such model folder or file: {path}")
    for name in WEIGHT_FILES:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path} has no weights; expected one of {', '.join(WEIGHT_FILES)}")


def open_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file, by name. Raises CheckpointError when it is broken or of an unknown kind."""
    if path.suffix == ".json":
        return _open_shards(path)
    opener = _OPENERS.get(path.suffix)
    if opener is None:
        raise CheckpointError(f"{path}: unknown kind of weights file; expected {', '.join(_OPENERS)}")
    return opener(path)


def _open_shards(index_path: Path) -> dict[str, Tensor]:
    weight_map: Any = read_json(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(_is_file_name(name) for name in weight_map.values()):
        raise CheckpointError(f"{index_path}: expected a weight_map of tensor names to file names in the same folder")
    missing = sorted(name for name in set(weight_map.values()) if not (index_path.parent / name).is_file())
    if missing:
        raise CheckpointError(f"{index_path.parent} lacks {', '.join(missing)}; download the model again")
    return {
        name: tensor
        for shard in sorted(set(weight_map.values()))
        for name, tensor in open_weights(index_path.parent / shard).items()
    }


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and not name.endswith(".json")


def read_json(path: Path) -> dict[str, Any]:
    return parse_json(map_bytes(path).tobytes(), path)
