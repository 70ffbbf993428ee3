"""A module imports only from rows above its own, and only the packages that its row may use."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

# Modules (with all below them) and the packages from elsewhere that they may import.
ROWS: list[tuple[set[str], set[str]]] = [
    ({"errors", "log_utils", "folders"}, set()),
    ({"inputs"}, set()),
    ({"schema"}, {"numpy"}),
    ({"audio"}, {"numpy", "av"}),
    (
        {"tokenizer", "checkpoints", "chunks", "clustering", "vbx"},
        {"numpy", "tiktoken", "tokenizers", "safetensors"},
    ),
    ({"hub"}, {"huggingface_hub"}),
    ({"models"}, {"numpy", "mlx"}),
    ({"subtitles"}, set()),
    ({"speaker_turns", "word_speakers"}, {"numpy"}),
    ({"community"}, {"numpy"}),
    ({"vads", "backends", "alignment", "diarize"}, {"numpy"}),
    ({"writers", "transcripts"}, {"pysubs2"}),
    ({"asr"}, {"numpy"}),
    ({"transcribe"}, set()),  # runs what asr loads
    ({"report"}, set()),
    ({"screen", "arguments"}, {"rich"}),
    ({"models_command", "doctor"}, {"huggingface_hub", "av"}),
    ({"cli", "convert", "serve", "jobs", "utils", "types", "vad", "SubtitlesProcessor", "conjunctions"}, set()),
    ({"__main__", "__init__"}, set()),
]
ENGINES = {
    "alignment.sentences": {"punkt"},
    "alignment.numbers": {"num2words"},
    "backends.mlx": {"mlx"},
    "backends.ctranslate2": {"ctranslate2"},
    "backends.ctranslate2_models": {"ctranslate2"},
    "diarize": {"pandas"},
    "models.blas": {"threadpoolctl"},
}  # each in its own file
EXECUTE_WHAT_THEY_READ = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}

MODULES = {
    ".".join(path.relative_to(SRC / "whisperx").with_suffix("").parts): path
    for path in sorted((SRC / "whisperx").rglob("*.py"))
}


def imports_of(source: str) -> Iterator[str]:
    """Full names of what a module imports anywhere in it; `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def row_of(module: str) -> int:
    rows = [i for i, (modules, _) in enumerate(ROWS) if module.split(".")[0] in modules]
    assert len(rows) == 1, f"{module} has no place in the table of layers"
    return rows[0]


def violations(module: str, source: str) -> list[str]:
    """What `module` imports and should not."""
    row = row_of(module)
    allowed = ROWS[row][1] | ENGINES.get(module, set())
    found = []
    for name in imports_of(source):
        root, _, inner = name.partition(".")
        if root == "whisperx":
            own_package = inner.split(".")[0] == module.split(".")[0]
            if inner and inner != "__version__" and not own_package and row_of(inner) >= row:
                found.append(name)
        elif root not in allowed and (root not in sys.stdlib_module_names or root in EXECUTE_WHAT_THEY_READ):
            found.append(name)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_from_rows_above(module: str) -> None:
    assert violations(module, MODULES[module].read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("schema", "from whisperx.audio import load_audio"),
        ("schema", "from whisperx import audio"),
        ("audio", "import whisperx.chunks"),
        ("audio", "def f():\n    import mlx.core as mx"),
        ("vads.silero", "import mlx.core as mx"),
        ("backends.ctranslate2", "import mlx.core as mx"),
        ("backends.mlx", "import ctranslate2"),
        ("models.whisper.model", "from whisperx.backends.mlx import MlxBackend"),
        ("transcribe", "from whisperx.cli import main"),
        ("cli", "import torch"),
        ("models.silero", "from torch import nn"),
        ("checkpoints.pytorch", "import pickle"),
        ("checkpoints.pytorch", "from pickle import load"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    assert violations(module, source)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_allows_numpy_to_unpickle(module: str) -> None:
    calls = (node for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))) if isinstance(node, ast.Call))
    assert not [keyword for call in calls for keyword in call.keywords if keyword.arg == "allow_pickle"]


HEAVY = {"mlx", "numpy", "pandas", "av", "rich", "tiktoken", "huggingface_hub", "safetensors", "torch", "starlette"}


def output_of(code: str, path: Path | None = None) -> str:
    """What a new interpreter prints that runs `code`, with `path` searched first."""
    paths = os.pathsep.join([str(path)] * (path is not None) + sys.path)
    environment = os.environ | {"PYTHONPATH": paths}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout


def loaded_by(code: str, path: Path | None = None) -> set[str]:
    """Packages that are loaded after `code`."""
    tell = "\nimport json, sys\nprint(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    return set(json.loads(output_of(code + tell, path).splitlines()[-1]))


@pytest.mark.parametrize("arguments", [None, ["--help"], ["--version"], ["a.wav", "--batch_size", "many"]], ids=str)
def test_what_must_be_quick_loads_nothing_heavy(arguments: list[str] | None) -> None:
    code = "import whisperx"
    if arguments is not None:
        code += f"\nfrom whisperx.cli import main\ntry:\n    main({arguments})\nexcept SystemExit:\n    pass"
    assert loaded_by(code) & HEAVY == set()


def test_torch_is_not_loaded_where_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "torch.py").touch()
    loaded = loaded_by("import whisperx\nfor name in dir(whisperx):\n    getattr(whisperx, name)", tmp_path)
    assert "numpy" in loaded
    assert "torch" not in loaded
    assert "torch" in loaded_by("import torch", tmp_path)


def test_names_and_submodules_are_there_after_a_bare_import() -> None:
    code = """
import whisperx
assert whisperx.audio.SAMPLE_RATE == 16000
assert whisperx.load_audio is whisperx.audio.load_audio
assert whisperx.load_model is whisperx.asr.load_model
assert {"load_model", "load_audio", "audio", "utils", "__version__"} <= set(dir(whisperx))
assert not hasattr(whisperx, "no_such_name")
assert not hasattr(whisperx, "__main__"), "to look at it would run the command"
"""
    output_of(code)


def test_package_that_a_submodule_lacks_is_named() -> None:
    code = """
import sys, whisperx
sys.modules["tiktoken"] = None  # as if it were not installed
try:
    whisperx.tokenizer
except ModuleNotFoundError as error:
    assert error.name == "tiktoken"
else:
    raise AssertionError("loaded without tiktoken")
"""
    output_of(code)
