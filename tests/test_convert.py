"""`python -m whisperx.convert`: any checkpoint to a folder in MLX's layout."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoint_files import DIMS, expected_arrays, openai_arrays, write_torch
from random_whisper import TALKER, random_speech, write_talker

from whisperx.backends.mlx import MlxBackend
from whisperx.checkpoints import Quantization, load_checkpoint
from whisperx.convert import convert, main
from whisperx.errors import OptionError
from whisperx.hub import MODELS
from whisperx.models.whisper.compute_types import COMPUTE_TYPES
from whisperx.schema import DecodingOptions, Meter

OPTIONS = DecodingOptions(language="en", max_new_tokens=12, temperatures=(0.0,))


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """Weights in float32, with the files that fine-tunes have beside them."""
    folder = write_talker(tmp_path_factory.mktemp("talker"))
    (folder / "generation_config.json").write_text('{"alignment_heads": [[1, 0]], "max_length": 448}')
    return folder


@pytest.fixture(scope="module")
def chunks() -> list[np.ndarray]:
    return [random_speech(3.0 + seed, seed) for seed in range(2)]


def decode(model, chunks, compute_type="default"):
    backend = MlxBackend(model, device="cpu", compute_type=compute_type)
    return backend.decode(chunks, OPTIONS, batch_size=2, on_result=lambda *_: None, meter=Meter())


@pytest.mark.parametrize(
    ("flags", "compute_type"),
    [
        (["--dtype", "float32"], "float32"),
        (["-q", "--q-bits", "8"], "int8"),
        (["-q"], "int4"),
        (["-q", "--q-bits", "8", "--dtype", "float32"], "int8_float32"),
    ],
)
def test_a_converted_folder_decodes_what_the_source_does_with_that_type(
    talker, chunks, tmp_path, capsys, flags, compute_type
):
    folder = tmp_path / "converted"
    assert main(["--hf-path", str(talker), "--mlx-path", str(folder), *flags]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {folder} (")
    expected = decode(talker, chunks, compute_type)
    assert decode(folder, chunks) == expected
    assert decode(folder, chunks, compute_type) == expected


def test_float16_is_rounded_once(talker, tmp_path):
    convert(talker, tmp_path / "half", dtype="float16")
    arrays, rounded = load_checkpoint(talker).arrays, load_checkpoint(tmp_path / "half").arrays
    assert arrays.keys() == rounded.keys()
    for name, array in arrays.items():
        assert rounded[name].dtype == np.float16
        assert np.array_equal(rounded[name], array.astype(np.float16))


def test_the_layout_is_that_of_mlx_whisper(talker, tmp_path):
    convert(talker, tmp_path / "small", bits=8, group_size=32, dtype="bfloat16")
    config = json.loads((tmp_path / "small/config.json").read_text())
    assert config.pop("model_type") == "whisper"
    assert config.pop("quantization") == {"group_size": 32, "bits": 8}
    assert config == asdict(TALKER)
    weights = mx.load(str(tmp_path / "small/weights.safetensors"))
    assert weights["decoder.blocks.1.mlp1.weight"].dtype == mx.uint32
    assert weights["decoder.blocks.1.mlp1.scales"].shape == (256, 2)
    assert weights["decoder.token_embedding.weight"].dtype == mx.bfloat16
    assert weights["alignment_heads"].tolist() == [[1, 0]]


def test_alignment_heads_and_generation_settings_are_kept(talker, tmp_path):
    convert(talker, tmp_path / "copy")
    copy = load_checkpoint(tmp_path / "copy")
    assert copy.alignment_heads.tolist() == [[1, 0]]
    assert copy.generation_config == {"alignment_heads": [[1, 0]], "max_length": 448}


def test_the_tokenizer_comes_along(talker, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(talker, source)
    (source / "tokenizer.json").write_text('{"version": "1.0"}')
    convert(source / "model.safetensors", tmp_path / "copy")
    assert (tmp_path / "copy/tokenizer.json").read_text() == '{"version": "1.0"}'


def test_files_of_openai_are_converted(tmp_path):
    openai = openai_arrays(DIMS)
    write_torch(tmp_path / "model.pt", openai, asdict(DIMS))
    convert(tmp_path / "model.pt", tmp_path / "mlx", dtype="float32")
    converted = load_checkpoint(tmp_path / "mlx")
    assert converted.dims == DIMS
    for name, array in expected_arrays(openai).items():
        assert np.array_equal(converted.arrays[name], array), name


def test_a_quantised_folder_is_converted_to_other_numbers(talker, tmp_path):
    convert(talker, tmp_path / "int8", bits=8)
    convert(tmp_path / "int8", tmp_path / "float32", dtype="float32")
    convert(tmp_path / "int8", tmp_path / "int4", bits=4)
    assert load_checkpoint(tmp_path / "int4").quantization == Quantization(64, 4)
    expanded = load_checkpoint(tmp_path / "float32")
    assert expanded.quantization is None
    name = "decoder.blocks.0.mlp1.weight"
    difference = np.abs(expanded.arrays[name] - load_checkpoint(talker).arrays[name])
    assert 0 < difference.max() < 0.02


def test_a_folder_that_is_there_is_never_overwritten(talker, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("precious")
    assert main(["--hf-path", str(talker), "--mlx-path", str(tmp_path)]) == 1
    assert f"error: {tmp_path} is there already: give another folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(talker, tmp_path):
    convert(talker, tmp_path)
    assert load_checkpoint(tmp_path).dims == TALKER


def test_nothing_is_left_of_a_conversion_that_fails(talker, tmp_path, monkeypatch):
    def fail(path, weights, metadata):
        Path(path).write_bytes(b"half")
        raise RuntimeError("[write] Unable to write 10 bytes to file.")

    monkeypatch.setattr(mx, "save_safetensors", fail)
    with pytest.raises(OSError, match=r"weights.safetensors cannot be written: .* Unable to write"):
        convert(talker, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"bits": 3}, "q-bits is one of None, 4, 8, not 3"),
        ({"group_size": 16}, "q-group-size is one of 32, 64, 128, not 16"),
        ({"dtype": "int8"}, "dtype is one of float16, bfloat16, float32, not int8"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting, message, talker, tmp_path):
    with pytest.raises(OptionError, match=message):
        convert(talker, tmp_path / "new", **setting)


def test_bits_without_quantising_are_refused(talker, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--hf-path", str(talker), "--mlx-path", str(tmp_path / "new"), "--q-bits", "8"])
    assert "add -q" in capsys.readouterr().err


def test_a_missing_model_is_an_error_of_one_line(tmp_path):
    command = [sys.executable, "-m", "whisperx.convert", "--hf-path", str(tmp_path / "none"), "--mlx-path", "unused"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: no such model folder or file: {tmp_path / 'none'}\n"


def test_the_documentation_lists_every_model_and_compute_type():
    page = (Path(__file__).parents[1] / "docs/models.md").read_text("utf-8")
    for name, repository in MODELS.items():
        assert f"| `{name}` | [{repository}](https://huggingface.co/{repository}) |" in page
    for name in COMPUTE_TYPES:
        assert f"`{name}`" in page
