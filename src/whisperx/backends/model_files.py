"""The files that a model lies in, and whether they are still the same."""

from pathlib import Path

_MODEL_FILES = (".json", ".safetensors", ".npz", ".bin", ".pt", ".pth")


def fingerprint(model: Path) -> tuple[object, ...]:
    """What changes when the files of a model, a folder or one of them, do: their names, sizes and times."""
    folder = model if model.is_dir() else model.parent
    files = sorted(path for path in folder.iterdir() if path.suffix in _MODEL_FILES)
    stats = [(path.name, path.stat()) for path in files]
    return (model.resolve(), *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))
