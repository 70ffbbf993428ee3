"""CTranslate2's model.bin is read without CTranslate2, whatever its weights are rounded to."""

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_files import DIMS, ctranslate2_variables, expected_arrays, openai_arrays, write_ctranslate2

from whisperx.checkpoints import load_checkpoint
from whisperx.errors import CheckpointError

WEIGHTS = openai_arrays()


def written(folder: Path, variables: dict[str, Any], **config: object) -> Path:
    write_ctranslate2(folder / "model.bin", variables)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_weights_are_read_as_they_are(dtype: str, tmp_path: Path) -> None:
    weights = openai_arrays(dtype=dtype)
    checkpoint = load_checkpoint(written(tmp_path, ctranslate2_variables(weights)))
    expected = expected_arrays(weights)
    assert checkpoint.arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(checkpoint.arrays[name], array, err_msg=name)
        assert checkpoint.arrays[name].dtype == dtype
    assert checkpoint.dims == DIMS


def test_arrays_that_are_stored_once_under_two_names_are_both_read(tmp_path: Path) -> None:
    twin = {"decoder/layer_1/ffn/linear_0/bias": "decoder/layer_2/ffn/linear_0/bias"}
    checkpoint = load_checkpoint(written(tmp_path, ctranslate2_variables(WEIGHTS) | twin))
    np.testing.assert_array_equal(
        checkpoint.arrays["decoder.blocks.1.mlp1.bias"], WEIGHTS["decoder.blocks.2.mlp.0.bias"]
    )
    write_ctranslate2(tmp_path / "model.bin", ctranslate2_variables(WEIGHTS) | {"decoder/start": "nothing"})
    with pytest.raises(CheckpointError, match="broken, or cut short"):
        load_checkpoint(tmp_path)


def quantised(variables: dict[str, Any], kind: str) -> dict[str, Any]:
    """As CTranslate2 rounds: 8 bits with a scale for each row, 16 bits with one for all; nothing but weights."""
    result = {}
    for name, array in variables.items():
        result[name] = array
        if not name.endswith("/weight") or isinstance(array, str):
            continue
        wide = array.astype(np.float32)
        if kind == "int8":
            scale = (127 / np.abs(wide).reshape(len(wide), -1).max(axis=1)).astype(np.float32)
            result[name] = np.rint(wide * scale.reshape(-1, *[1] * (wide.ndim - 1))).astype(np.int8)
        else:
            scale = np.array(2**10 / np.abs(wide).max(), np.float32)
            result[name] = np.rint(wide * scale).astype(np.int16)
        result[f"{name}_scale"] = scale
    return result


@pytest.mark.parametrize("kind", ["int8", "int16"])
def test_rounded_weights_are_expanded(kind: str, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(written(tmp_path, quantised(ctranslate2_variables(WEIGHTS), kind)))
    for name, array in expected_arrays(WEIGHTS).items():
        found = checkpoint.arrays[name]
        if name.endswith(".weight") and array.ndim > 1:
            half_a_step = 5 / (254 if kind == "int8" else 2048)  # no weight is larger than 5
            assert found.dtype == np.float32
            assert np.abs(found - array.astype(np.float32)).max() <= half_a_step * 1.001, name
        else:
            np.testing.assert_array_equal(found, array, err_msg=name)


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    variables = ctranslate2_variables(WEIGHTS)
    name = "decoder/layer_norm/gamma"
    write_ctranslate2(tmp_path / "model.bin", variables | {name: variables[name].astype(np.float32)})
    content = (tmp_path / "model.bin").read_bytes()
    wide = variables[name].astype(np.float32).tobytes()
    narrow = (variables[name].astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    before = content.index(wide) - 5  # type and number of bytes
    content = (
        content[:before] + struct.pack("<BI", 5, narrow.nbytes) + narrow.tobytes() + content[before + 5 + len(wide) :]
    )
    (tmp_path / "model.bin").write_bytes(content)
    found = load_checkpoint(tmp_path).arrays["decoder.ln.weight"]
    np.testing.assert_array_equal(found, (narrow.astype(np.uint32) << 16).view(np.float32))


def test_config_tells_what_is_suppressed_and_which_heads_listen(tmp_path: Path) -> None:
    config = {"suppress_ids": [1, 2], "suppress_ids_begin": [3], "lang_ids": [4], "alignment_heads": [[2, 0]]}
    checkpoint = load_checkpoint(written(tmp_path, ctranslate2_variables(WEIGHTS), **config))
    assert checkpoint.generation_config == {"suppress_tokens": [1, 2], "begin_suppress_tokens": [3]}
    assert checkpoint.alignment_heads.tolist() == [[2, 0]]


def test_file_without_its_folder_is_a_model_too(tmp_path: Path) -> None:
    write_ctranslate2(tmp_path / "tiny.bin", ctranslate2_variables(WEIGHTS))
    assert load_checkpoint(tmp_path / "tiny.bin").dims == DIMS


# Broken files


def test_other_versions_and_models_are_named(tmp_path: Path) -> None:
    write_ctranslate2(tmp_path / "model.bin", {}, version=5)
    with pytest.raises(CheckpointError, match="of version 5, expected 6; convert it anew"):
        load_checkpoint(tmp_path)
    write_ctranslate2(tmp_path / "model.bin", {}, model="TransformerSpec")
    with pytest.raises(CheckpointError, match="of the kind 'TransformerSpec', expected WhisperSpec"):
        load_checkpoint(tmp_path)
    write_ctranslate2(tmp_path / "model.bin", {})
    with pytest.raises(CheckpointError, match=r"no Whisper checkpoint: encoder\.conv1\.weight is missing"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("n_bytes", [4, 5, 6, 17, 23, 40, 1000, -100_000])
def test_file_that_is_cut_short_is_told(n_bytes: int, tmp_path: Path) -> None:
    write_ctranslate2(tmp_path / "model.bin", ctranslate2_variables(WEIGHTS))
    content = (tmp_path / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(content[:n_bytes])
    with pytest.raises(CheckpointError, match=r"model.bin: a CTranslate2 model that is broken, or cut short"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("encoder/layer_0/self_attention/linear_0/weight", np.zeros((4, 4), np.float32)),  # not three matrices
        ("encoder/layer_0/self_attention/linear_0/bias", np.zeros((), np.float32)),
        ("encoder/num_heads", np.zeros(3, np.int16)),
        ("encoder/layer_0/ffn/linear_0/weight_scale", np.ones(3, np.float32)),
    ],
)
def test_parts_of_impossible_shapes_are_told(name: str, array: np.ndarray, tmp_path: Path) -> None:
    write_ctranslate2(tmp_path / "model.bin", ctranslate2_variables(WEIGHTS) | {name: array})
    with pytest.raises(CheckpointError, match="broken, or cut short"):
        load_checkpoint(tmp_path)


def test_random_damage_never_raises_anything_else(tmp_path: Path) -> None:
    write_ctranslate2(tmp_path / "model.bin", ctranslate2_variables(WEIGHTS))
    whole = (tmp_path / "model.bin").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for position in rng.integers(0, 4000, 8):
            damaged[position] = rng.integers(256)
        (tmp_path / "model.bin").write_bytes(damaged)
        with suppress(CheckpointError):
            load_checkpoint(tmp_path)
