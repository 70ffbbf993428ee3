import json
import struct
import tracemalloc
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoint_files import (
    DIMS,
    Raw,
    StoredTensor,
    expected_arrays,
    global_,
    hf_arrays,
    hf_config,
    mlx_arrays,
    mlx_config,
    opcodes,
    openai_arrays,
    pickled,
    torch_legacy,
    torch_zip,
    write_hf_folder,
    write_json,
    write_torch,
)
from safetensors.numpy import save_file

from whisperx.checkpoints import (
    Checkpoint,
    Quantization,
    WhisperDimensions,
    dequantize,
    expected_shapes,
    load_checkpoint,
    sinusoids,
)
from whisperx.checkpoints.alignment_heads import choose_alignment_heads, published_alignment_heads
from whisperx.checkpoints.pytorch import load_torch
from whisperx.checkpoints.tensors import open_npz, open_safetensors, read_expected
from whisperx.checkpoints.weights import find_weights
from whisperx.errors import CheckpointError, ModelNotFoundError

WEIGHTS = openai_arrays()
HF_WEIGHTS = hf_arrays(WEIGHTS)
MLX_WEIGHTS = mlx_arrays(WEIGHTS)


# Containers: each function writes the same weights into a folder and returns what to load.


def hf_safetensors(folder: Path) -> Path:
    return write_hf_folder(folder, WEIGHTS)


def hf_safetensors_file(folder: Path) -> Path:
    return write_hf_folder(folder, WEIGHTS) / "model.safetensors"


def hf_safetensors_without_config(folder: Path) -> Path:
    save_file(HF_WEIGHTS, folder / "model.safetensors")
    return folder


def hf_safetensors_sharded(folder: Path) -> Path:
    names = sorted(HF_WEIGHTS)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, in_file in shards.items():
        save_file({name: HF_WEIGHTS[name] for name in in_file}, folder / file)
    weight_map = {name: file for file, in_file in shards.items() for name in in_file}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    write_json(folder / "config.json", hf_config())
    return folder


def hf_safetensors_with_projection_only(folder: Path) -> Path:
    renamed = {name.replace("model.decoder.embed_tokens", "proj_out"): array for name, array in HF_WEIGHTS.items()}
    save_file(renamed, folder / "model.safetensors")
    write_json(folder / "config.json", hf_config())
    return folder


def hf_safetensors_in_mlx_layout(folder: Path) -> Path:
    arrays = {
        name: np.ascontiguousarray(array.transpose(0, 2, 1)) if array.ndim == 3 else array
        for name, array in HF_WEIGHTS.items()
    }
    save_file(arrays, folder / "model.safetensors")
    write_json(folder / "config.json", hf_config())
    return folder


def hf_bin(folder: Path) -> Path:
    tied = HF_WEIGHTS | {"proj_out.weight": HF_WEIGHTS["model.decoder.embed_tokens.weight"]}
    write_torch(folder / "pytorch_model.bin", tied)
    write_json(folder / "config.json", hf_config())
    return folder


def hf_bin_legacy(folder: Path) -> Path:
    write_torch(folder / "pytorch_model.bin", HF_WEIGHTS, legacy=True)
    write_json(folder / "config.json", hf_config())
    return folder


def hf_bin_sharded(folder: Path) -> Path:
    names = sorted(HF_WEIGHTS)
    write_torch(folder / "pytorch_model-1.bin", {name: HF_WEIGHTS[name] for name in names[:20]})
    write_torch(folder / "pytorch_model-2.bin", {name: HF_WEIGHTS[name] for name in names[20:]})
    weight_map = {name: f"pytorch_model-{1 if name in names[:20] else 2}.bin" for name in names}
    write_json(folder / "pytorch_model.bin.index.json", {"weight_map": weight_map})
    write_json(folder / "config.json", hf_config())
    return folder


def mlx_safetensors(folder: Path) -> Path:
    mx.save_safetensors(str(folder / "weights.safetensors"), {k: mx.array(v) for k, v in MLX_WEIGHTS.items()})
    write_json(folder / "config.json", mlx_config())
    return folder


def mlx_safetensors_under_the_name_of_hf(folder: Path) -> Path:
    save_file(MLX_WEIGHTS, folder / "model.safetensors")
    write_json(folder / "config.json", mlx_config())
    return folder


def mlx_npz(folder: Path) -> Path:
    mx.savez(str(folder / "weights.npz"), **{k: mx.array(v) for k, v in MLX_WEIGHTS.items()})
    write_json(folder / "config.json", mlx_config())
    return folder


def npz_compressed(folder: Path) -> Path:
    np.savez_compressed(folder / "weights.npz", **MLX_WEIGHTS)
    write_json(folder / "config.json", mlx_config())
    return folder


def npz_fortran_order(folder: Path) -> Path:
    np.savez(folder / "weights.npz", **{name: np.asfortranarray(array) for name, array in MLX_WEIGHTS.items()})
    write_json(folder / "config.json", mlx_config())
    return folder


def openai_pt_file(folder: Path) -> Path:
    write_torch(folder / "tiny.pt", WEIGHTS, asdict(DIMS))
    return folder / "tiny.pt"


def openai_pt_in_folder(folder: Path) -> Path:
    return openai_pt_file(folder).parent


def openai_pt_legacy(folder: Path) -> Path:
    write_torch(folder / "old.pt", WEIGHTS, asdict(DIMS), legacy=True)
    return folder / "old.pt"


CONTAINERS = [
    hf_safetensors, hf_safetensors_file, hf_safetensors_without_config, hf_safetensors_sharded,
    hf_safetensors_with_projection_only, hf_safetensors_in_mlx_layout, hf_bin, hf_bin_legacy, hf_bin_sharded,
    mlx_safetensors, mlx_safetensors_under_the_name_of_hf, mlx_npz, npz_compressed, npz_fortran_order,
    openai_pt_file, openai_pt_in_folder, openai_pt_legacy,
]  # fmt: skip


@pytest.mark.parametrize("write", CONTAINERS, ids=lambda write: write.__name__)
def test_every_container_loads_to_the_same_arrays(write, tmp_path):
    checkpoint = load_checkpoint(write(tmp_path))
    assert checkpoint.dims == DIMS
    assert checkpoint.quantization is None
    expected = expected_arrays(WEIGHTS)
    assert checkpoint.arrays.keys() == expected.keys() == expected_shapes(DIMS).keys()
    for name, array in expected.items():
        assert checkpoint.arrays[name].dtype == np.float16
        assert np.array_equal(checkpoint.arrays[name], array), name
        assert np.array_equal(np.array(mx.array(checkpoint.arrays[name])), array), name


def test_bfloat16_becomes_the_same_numbers_in_float32(tmp_path):
    weights = {name: mx.array(array).astype(mx.bfloat16) for name, array in MLX_WEIGHTS.items()}
    (tmp_path / "st").mkdir()
    (tmp_path / "npz").mkdir()
    mx.save_safetensors(str(tmp_path / "st" / "weights.safetensors"), weights)
    mx.savez(str(tmp_path / "npz" / "weights.npz"), **weights)
    for folder in ("st", "npz"):
        arrays = load_checkpoint(tmp_path / folder).arrays
        assert "encoder.positional_embedding" not in arrays  # rounded to bfloat16 they are the sinusoids still
        for name, array in arrays.items():
            assert array.dtype == np.float32
            assert np.array_equal(array, np.array(weights[name].astype(mx.float32))), name


@pytest.mark.parametrize(
    ("storage_type", "dtype"), [("BFloat16Storage", "f4"), ("FloatStorage", "f4"), ("DoubleStorage", "f8")]
)
def test_tensors_of_each_floating_type_are_read_from_torch_files(storage_type, dtype, tmp_path):
    numbers = np.array([1.5, -2.0, 0.25, 3.0], dtype=dtype)
    stored = numbers.tobytes() if "BFloat" not in storage_type else (numbers.view("<u4") >> 16).astype("<u2").tobytes()
    torch_zip(
        tmp_path / "a.pt",
        pickled({"x": StoredTensor("0", storage_type, 4, 0, (4,), (1,)).opcodes(False)}),
        {"0": stored},
    )
    read = load_torch(tmp_path / "a.pt")["x"].read()
    assert read.dtype == dtype
    assert np.array_equal(read, numbers)


def test_torch_files_of_a_big_endian_machine_are_read(tmp_path):
    program = pickled({"x": StoredTensor("0", "FloatStorage", 3, 0, (3,), (1,)).opcodes(False)})
    torch_zip(tmp_path / "a.pt", program, {"0": np.array([1, 2, 3], dtype=">f4").tobytes()}, byteorder=b"big")
    read = load_torch(tmp_path / "a.pt")["x"].read()
    assert read.tolist() == [1, 2, 3]
    assert read.dtype.isnative


@pytest.mark.parametrize(
    ("offset", "size", "stride", "expected"),
    [
        (0, (12,), (1,), list(range(12))),
        (3, (2, 3), (3, 1), [[3, 4, 5], [6, 7, 8]]),
        (0, (3, 4), (1, 3), [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]),
        (1, (2, 2), (6, 2), [[1, 3], [7, 9]]),
        (11, (), (), 11),
        (12, (0,), (1,), []),
        (0, (0, 5), (5, 1), np.zeros((0, 5)).tolist()),
    ],
)
def test_strides_and_offsets_of_torch_tensors_are_respected(offset, size, stride, expected, tmp_path):
    tensor = StoredTensor("0", "FloatStorage", 12, offset, size, stride)
    numbers = np.arange(12, dtype=np.float32).tobytes()
    torch_zip(tmp_path / "zip.pt", pickled({"x": tensor.opcodes(False)}), {"0": numbers})
    torch_legacy(tmp_path / "old.pt", pickled({"x": tensor.opcodes(True)}), {"0": numbers}, {"0": 12})
    for name in ("zip.pt", "old.pt"):
        read = load_torch(tmp_path / name)["x"].read()
        assert read.shape == size
        assert read.tolist() == expected


def test_a_parameter_is_read_as_its_tensor(tmp_path):
    tensor = StoredTensor("0", "FloatStorage", 2, 0, (2,), (1,)).opcodes(False)
    hooks = Raw(opcodes(global_("collections\nOrderedDict")) + b")R")
    parameter = Raw(opcodes(global_("torch._utils\n_rebuild_parameter")) + opcodes((tensor, True, hooks)) + b"R")
    torch_zip(tmp_path / "a.pt", pickled({"x": parameter}), {"0": np.array([4, 5], dtype=np.float32).tobytes()})
    assert load_torch(tmp_path / "a.pt")["x"].read().tolist() == [4, 5]


def test_weights_are_mapped_and_not_copied(tmp_path):
    folder = write_hf_folder(tmp_path, WEIGHTS)
    array = load_checkpoint(folder).arrays["decoder.token_embedding.weight"]
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert isinstance(owner, np.memmap)
    assert not array.flags.writeable


# Dimensions


def test_dimensions_are_inferred_when_there_is_no_config(tmp_path):
    assert load_checkpoint(hf_safetensors_without_config(tmp_path)).dims == DIMS


def test_a_config_without_heads_gets_one_per_64_channels(tmp_path):
    hf_safetensors(tmp_path)
    write_json(tmp_path / "config.json", {"vocab_size": DIMS.n_vocab})
    assert load_checkpoint(tmp_path).dims.n_text_head == 1


def test_the_number_of_heads_is_that_of_the_config(tmp_path):
    hf_safetensors(tmp_path)
    write_json(tmp_path / "config.json", hf_config() | {"decoder_attention_heads": 4})
    assert load_checkpoint(tmp_path).dims == replace(DIMS, n_text_head=4)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"vocab_size": 71}, "says n_vocab 71, the weights 70"),
        ({"decoder_layers": 10**9}, "says n_text_layer 1000000000, the weights 3"),
        ({"encoder_layers": 1}, "says n_audio_layer 1, the weights 2"),
        ({"d_model": 128}, "says n_audio_state 128, the weights 64"),
        ({"num_mel_bins": 80}, "says n_mels 80, the weights 8"),
        ({"max_source_positions": 1500}, "says n_audio_ctx 1500, the weights 10"),
        ({"max_target_positions": "12"}, "says n_text_ctx '12', the weights 12"),
        ({"decoder_attention_heads": 0}, "says n_text_head 0"),
        ({"decoder_attention_heads": 5}, "heads do not divide"),
    ],
)
def test_a_config_of_another_model_is_an_error(setting, message, tmp_path):
    hf_safetensors(tmp_path)
    write_json(tmp_path / "config.json", hf_config() | setting)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


def test_the_list_of_tensors_is_complete_for_large_v3():
    dims = WhisperDimensions(128, 1500, 1280, 20, 32, 51866, 448, 1280, 20, 32)
    shapes = expected_shapes(dims)
    n_parameters = sum(int(np.prod(shape)) for shape in shapes.values())
    assert n_parameters == 1_541_570_560  # of 1543.49 M in the paper's table, less the encoder's 1500 * 1280 positions


# Tensors


def load_hf_changed(folder: Path, **changes: np.ndarray | None) -> Checkpoint:
    arrays = HF_WEIGHTS | {name.replace("__", "."): array for name, array in changes.items()}
    save_file({name: array for name, array in arrays.items() if array is not None}, folder / "model.safetensors")
    write_json(folder / "config.json", hf_config())
    return load_checkpoint(folder)


def test_a_missing_tensor_is_named_with_its_shape(tmp_path):
    with pytest.raises(CheckpointError, match=r"encoder.blocks.1.mlp1.weight of shape \(256, 64\) is missing"):
        load_hf_changed(tmp_path, model__encoder__layers__1__fc1__weight=None)


def test_a_misshapen_tensor_is_named_with_both_shapes(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"decoder.blocks.2.cross_attn.key.weight has shape \(64, 63\), expected \(64, 64\)"
    ):
        load_hf_changed(tmp_path, model__decoder__layers__2__encoder_attn__k_proj__weight=np.zeros((64, 63), "f2"))


def test_a_tensor_of_integers_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"decoder.ln.bias has type <i4, expected floating point"):
        load_hf_changed(tmp_path, model__decoder__layer_norm__bias=np.zeros(64, "i4"))


def test_unknown_tensors_are_ignored(tmp_path):
    checkpoint = load_hf_changed(tmp_path, surplus=np.ones(3, "f4"))
    assert checkpoint.arrays.keys() == expected_shapes(DIMS).keys()


def test_an_untied_projection_is_an_error_and_a_tied_one_is_dropped(tmp_path):
    embedding = HF_WEIGHTS["model.decoder.embed_tokens.weight"]
    for projection, tied in ((embedding, True), (embedding, False), (embedding + 1, True)):
        save_file(HF_WEIGHTS | {"proj_out.weight": projection}, tmp_path / "model.safetensors")
        write_json(tmp_path / "config.json", hf_config() | {"tie_word_embeddings": tied})
        arrays = load_checkpoint(tmp_path).arrays
        assert arrays.keys() == expected_shapes(DIMS).keys()
        assert np.array_equal(arrays["decoder.token_embedding.weight"], embedding)
    write_json(tmp_path / "config.json", hf_config() | {"tie_word_embeddings": False})
    with pytest.raises(CheckpointError, match=r"proj_out.weight differs from the token embedding"):
        load_checkpoint(tmp_path)


def test_fine_tuned_encoder_positions_are_kept(tmp_path):
    tuned = HF_WEIGHTS["model.encoder.embed_positions.weight"].copy()
    tuned[3, 5] += 0.01
    arrays = load_hf_changed(tmp_path, model__encoder__embed_positions__weight=tuned).arrays
    assert np.array_equal(arrays["encoder.positional_embedding"], tuned)


def test_sinusoids_are_those_of_the_formula():
    positions = sinusoids(1500, 384)
    assert positions.shape == (1500, 384)
    assert positions.dtype == np.float32
    assert np.allclose(positions[:, 0], np.sin(np.arange(1500)), atol=1e-6)
    assert np.allclose(positions[:, 192], np.cos(np.arange(1500)), atol=1e-6)
    assert np.allclose(positions[:, 191], np.sin(np.arange(1500) / 10000), atol=1e-6)


# Quantised weights


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group_size", [32, 64])
def test_dequantize_equals_that_of_mlx(bits, group_size):
    weight = mx.random.normal((24, 192), key=mx.random.key(bits))
    packed, scales, biases = mx.quantize(weight, group_size=group_size, bits=bits)
    ours = dequantize(np.array(packed), np.array(scales), np.array(biases), group_size, bits)
    theirs = np.array(mx.dequantize(packed, scales, biases, group_size=group_size, bits=bits))
    assert ours.dtype == np.float32
    assert np.allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("container", ["safetensors", "npz"])
def test_quantised_weights_stay_packed(container, tmp_path):
    group_size, bits = 32, 4
    arrays: dict[str, mx.array] = {}
    for name, array in MLX_WEIGHTS.items():
        if array.ndim == 2 and name.endswith(".weight"):
            stem = name.removesuffix("weight")
            packed = mx.quantize(mx.array(array), group_size=group_size, bits=bits)
            arrays |= dict(zip((name, f"{stem}scales", f"{stem}biases"), packed, strict=True))
        else:
            arrays[name] = mx.array(array)
    save = mx.savez if container == "npz" else lambda path, **weights: mx.save_safetensors(path, weights)
    save(str(tmp_path / f"weights.{container}"), **arrays)
    write_json(tmp_path / "config.json", mlx_config() | {"quantization": {"group_size": group_size, "bits": bits}})

    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.quantization == Quantization(group_size, bits)
    assert checkpoint.dims == DIMS
    assert checkpoint.arrays.keys() == arrays.keys() - {"encoder.positional_embedding"}
    for name, array in checkpoint.arrays.items():
        assert np.array_equal(array, np.array(arrays[name])), name
    assert checkpoint.arrays["decoder.token_embedding.weight"].dtype == np.uint32

    write_json(tmp_path / "config.json", mlx_config())
    with pytest.raises(CheckpointError, match=r"is quantised, but config.json has no quantization"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "settings", [{"bits": 4}, {"group_size": 64, "bits": 7}, {"group_size": 64, "bits": 4, "mode": "mxfp4"}, 4]
)
def test_unknown_quantization_is_an_error(settings, tmp_path):
    mlx_npz(tmp_path)
    write_json(tmp_path / "config.json", mlx_config() | {"quantization": settings})
    with pytest.raises(CheckpointError, match="quantization"):
        load_checkpoint(tmp_path)


# Alignment heads

LAST_HALF = [[1, 0], [2, 0]]  # of the three layers with one head


@pytest.mark.parametrize(
    ("configured", "stored", "expected"),
    [
        (None, None, LAST_HALF),
        ([[0, 0], [2, 0]], None, [[0, 0], [2, 0]]),
        (None, [[0, 0]], [[0, 0]]),
        ([[2, 0]], [[0, 0]], [[2, 0]]),
        ([[3, 0]], None, LAST_HALF),
        ([[0, -1]], None, LAST_HALF),
        ([[0, 1]], [[0, 0]], [[0, 0]]),
        ([], [[0, 0]], [[0, 0]]),
        ([[0, 0], [1]], None, LAST_HALF),
        ("none", None, LAST_HALF),
        (None, [[0, 0]] * 1000, LAST_HALF),
    ],
)
def test_alignment_heads_come_from_the_config_then_the_weights(configured, stored, expected, tmp_path):
    weights = dict(MLX_WEIGHTS)
    if stored is not None:
        weights["alignment_heads"] = np.array(stored, dtype=np.int32)
    np.savez(tmp_path / "weights.npz", **weights)
    write_json(tmp_path / "config.json", mlx_config())
    if configured is not None:
        write_json(tmp_path / "generation_config.json", {"alignment_heads": configured})
    heads = load_checkpoint(tmp_path).alignment_heads
    assert heads.dtype == np.int64
    assert heads.tolist() == expected


TINY = WhisperDimensions(80, 1500, 384, 6, 4, 51865, 448, 384, 6, 4)
LARGE = WhisperDimensions(80, 1500, 1280, 20, 32, 51865, 448, 1280, 20, 32)


@pytest.mark.parametrize(
    ("dims", "name", "first", "count"),
    [
        (TINY, "whisper-tiny", (2, 2), 6),
        (replace(TINY, n_vocab=51864), "whisper-tiny.en", (1, 0), 8),
        (LARGE, "models--openai--whisper-large-v2/snapshots/0/model.safetensors", (10, 12), 23),
        (LARGE, "mlx-community/whisper-large-v2-mlx", (10, 12), 23),
        (LARGE, "my-fine-tune", (10, 12), 23),
        (LARGE, "models--openai--whisper-large/snapshots/0/model.safetensors", (9, 19), 9),
        (LARGE, "whisper/large-v1.pt", (9, 19), 9),
        (replace(LARGE, n_vocab=51866, n_mels=128), "large-v3", (7, 0), 10),
        (replace(LARGE, n_vocab=51866, n_mels=128, n_text_layer=4), "turbo", (2, 4), 6),
    ],
)
def test_published_models_have_their_own_alignment_heads(dims, name, first, count):
    heads = published_alignment_heads(dims, name)
    assert heads is not None
    assert tuple(heads[0]) == first
    assert len(heads) == count
    assert (heads < [dims.n_text_layer, dims.n_text_head]).all()


def test_distilled_models_have_no_published_heads():
    assert published_alignment_heads(replace(LARGE, n_vocab=51866, n_text_layer=2), "distil-large-v3") is None


def test_the_default_that_converters_write_gives_way_to_the_published_heads():
    last_half = [(layer, head) for layer in (2, 3) for head in range(6)]
    published = published_alignment_heads(TINY, "")
    assert np.array_equal(choose_alignment_heads(TINY, "", configured=None, stored=np.array(last_half)), published)
    assert choose_alignment_heads(TINY, "", configured=last_half, stored=None).tolist() == [
        list(pair) for pair in last_half
    ]


# Broken and hostile files; pickles have a test file of their own


def write_safetensors(path: Path, header: object, body: bytes = b"", length: int | None = None) -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded) if length is None else length) + encoded + body)
    return path


def entry(dtype: object = "F32", shape: object = (2,), data_offsets: object = (0, 8)) -> dict[str, object]:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": data_offsets}}


@pytest.mark.parametrize(
    ("header", "length", "message"),
    [
        ({}, 10**15, "cut short"),
        ({}, 0, "not a safetensors file"),
        (b"\xff\xfe", None, "broken JSON"),
        (b"[" * 100_000, None, "broken JSON"),
        (b"[1]", None, "expected a JSON object"),
        ({"x": 3}, None, "entry for 'x' is broken"),
        ({"x": {}}, None, "entry for 'x' is broken"),
        (entry(shape=[-2]), None, "entry for 'x' is broken"),
        (entry(shape=[2.0]), None, "entry for 'x' is broken"),
        (entry(shape=[True, 2]), None, "entry for 'x' is broken"),
        (entry(shape=[2] + [1] * 64), None, "entry for 'x' is broken"),  # NumPy has at most 64 axes
        (entry(shape=[0, 2**64], data_offsets=(0, 0)), None, "entry for 'x' is broken"),
        (entry(data_offsets=[0]), None, "entry for 'x' is broken"),
        (entry(data_offsets=[-8, 0]), None, "entry for 'x' is broken"),
        (entry(data_offsets=[0, 16]), None, "does not fill its shape"),
        (entry(data_offsets=[8, 0]), None, "outside the file"),
        (entry(data_offsets=[4, 12]), None, "outside the file"),
        (entry(shape=[2**40]), None, "does not fill its shape"),
        (entry(shape=[2**40, 2**40]), None, "entry for 'x' is broken"),
        (entry(dtype="F8_E4M3"), None, "has type 'F8_E4M3', expected one of BOOL"),
        (entry(dtype=["F32"]), None, "has type"),
    ],
)
def test_broken_safetensors_raise(header, length, message, tmp_path):
    path = write_safetensors(tmp_path / "model.safetensors", header, bytes(8), length)
    with pytest.raises(CheckpointError, match=message):
        open_safetensors(path)


def test_safetensors_that_are_right_open(tmp_path):
    path = write_safetensors(tmp_path / "a.safetensors", {"__metadata__": {"format": "pt"}} | entry(), bytes(8))
    assert open_safetensors(path)["x"].read().tolist() == [0, 0]


def test_safetensors_at_odd_addresses_are_copied(tmp_path):
    body = b"?" + np.array([1, 2], dtype="<f4").tobytes()
    header = json.dumps(entry(data_offsets=(1, 9))).encode()
    path = write_safetensors(tmp_path / "a.safetensors", header + b" " * (-len(header) % 8), body)
    array = open_safetensors(path)["x"].read()
    assert array.tolist() == [1, 2]
    assert array.flags.aligned


def npy(header: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an array of numbers"),
        (b"text", "is not an array of numbers"),
        (npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)), "is not an array of numbers"),
        (npy(b"{'descr': '<U2', 'fortran_order': False, 'shape': (1,)}", bytes(8)), "is not an array of numbers"),
        (npy(b"{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}", bytes(3)), "is not an array of numbers"),
        (npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", bytes(4)), "is not an array of numbers"),
        (
            npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 65}}}".encode(), bytes(4)),
            "is not an array",
        ),
        (npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", bytes(8)), "does not fill its shape"),
        (npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(8)), "does not fill its shape"),
        (
            npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,)}", bytes(8)),
            "does not fill its shape",
        ),
        (npy(b"{'descr': '<f4', 'fortran_order': False}"), "is not an array of numbers"),
        (npy(b"__import__('os').getcwd()"), "is not an array of numbers"),
        (npy(b"(" * 5000), "is not an array of numbers"),
    ],
)
def test_broken_arrays_in_an_npz_raise(content, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "weights.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(CheckpointError, match=message):
        open_npz(tmp_path / "weights.npz")


def test_a_compressed_array_whose_checksum_differs_raises(tmp_path):
    np.savez_compressed(tmp_path / "weights.npz", x=np.arange(1000))
    data = bytearray((tmp_path / "weights.npz").read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 16] ^= 1  # the checksum
    (tmp_path / "weights.npz").write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        open_npz(tmp_path / "weights.npz")["x"].read()


def test_a_member_that_says_it_is_larger_than_the_archive_raises(tmp_path):
    np.savez(tmp_path / "weights.npz", x=np.arange(1000))
    data = bytearray((tmp_path / "weights.npz").read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 20 : directory + 28] = struct.pack("<II", 10**6, 10**6)
    (tmp_path / "weights.npz").write_bytes(data)
    with pytest.raises(CheckpointError, match="outside the archive"):
        open_npz(tmp_path / "weights.npz")


def test_a_bomb_is_not_decompressed(tmp_path):
    """60 MB of zeros, under a name that no Whisper has and then as an embedding of the wrong width."""
    zeros = np.zeros((60_000, 256), dtype=np.float32)
    surplus, wide = tmp_path / "surplus.npz", tmp_path / "wide.npz"
    np.savez_compressed(surplus, **MLX_WEIGHTS, surplus=zeros)
    np.savez_compressed(wide, **MLX_WEIGHTS | {"decoder.token_embedding.weight": zeros})
    tracemalloc.start()
    assert load_checkpoint(surplus).dims == DIMS
    with pytest.raises(CheckpointError, match=r"has shape \(60000, 256\), expected \(60000, 64\)"):
        load_checkpoint(wide)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_more_parameters_than_any_network_are_not_read(tmp_path):
    np.savez_compressed(tmp_path / "forged.npz", a=np.zeros((20, 30)), b=np.zeros((20, 21)))
    tensors = open_npz(tmp_path / "forged.npz")
    with pytest.raises(CheckpointError, match="claims more than 1000 parameters"):
        read_expected(tmp_path / "forged.npz", tensors, {"a": (20, 30), "b": (20, 21)}, max_parameters=1000)


def test_numbers_of_another_type_are_not_read(tmp_path):
    np.savez(tmp_path / "whole.npz", a=np.zeros(3, np.int64))
    with pytest.raises(CheckpointError, match=r"whole\.npz: tensor a has type <i8, expected floating point"):
        read_expected(tmp_path / "whole.npz", open_npz(tmp_path / "whole.npz"), {"a": (3,)})


@pytest.mark.parametrize("write", [hf_safetensors, mlx_npz, npz_compressed, hf_bin, hf_bin_legacy])
def test_a_damaged_file_loads_or_raises_an_error_of_one_line(write, tmp_path):
    """Bytes changed, lost or added, mostly where the directory of tensors is; seeded."""
    write(tmp_path)
    path = find_weights(tmp_path)
    intact = path.read_bytes()
    rng = np.random.default_rng(3)
    messages = []
    for _ in range(60):
        start = int(rng.choice([rng.integers(3000), len(intact) - 1 - rng.integers(3000), rng.integers(len(intact))]))
        lost, added = rng.choice([(1, 1), (4, 4), (20, 0), (0, 5), (len(intact), 0)])
        path.unlink()  # a new file: the old one may still be mapped
        path.write_bytes(intact[:start] + rng.bytes(added) + intact[start + lost :])
        try:
            load_checkpoint(tmp_path)
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"", "is empty"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        ("model.safetensors", b"<html>Not found</html>", "not a safetensors file"),
        ("weights.npz", b"PK\x03\x04 and no more", "broken zip archive"),
        ("pytorch_model.bin", b"PK\x03\x04 and no more", "broken zip archive"),
        ("pytorch_model.bin", b"lmgg\x00", "not a file of torch.save"),
        ("large.pt", b"\x80\x02", "not a file of torch.save"),
        ("model.safetensors.index.json", b"{}", "expected a weight_map"),
        ("model.safetensors.index.json", b'{"weight_map": {"x": "../other/model.safetensors"}}', "in the same folder"),
        (
            "model.safetensors.index.json",
            b'{"weight_map": {"x": "model.safetensors.index.json"}}',
            "in the same folder",
        ),
        ("model.safetensors.index.json", b'{"weight_map": {"x": "model-1.safetensors"}}', "lacks model-1.safetensors"),
    ],
)
def test_a_file_that_is_no_checkpoint_raises(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


def test_the_weights_of_another_network_are_no_whisper(tmp_path):
    save_file({"encoder.weight": np.zeros((2, 2), "f4")}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"is no Whisper checkpoint: encoder.conv1.weight is missing"):
        load_checkpoint(tmp_path)


def test_a_folder_without_weights_says_what_was_expected(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no weights; expected one of model.safetensors, .* weights.npz"):
        load_checkpoint(tmp_path)


def test_a_folder_with_two_pt_files_asks_which(tmp_path):
    (tmp_path / "a.pt").touch()
    (tmp_path / "b.pt").touch()
    with pytest.raises(CheckpointError, match=r"several models; give one of .*a.pt, .*b.pt"):
        load_checkpoint(tmp_path)


def test_a_file_of_unknown_kind_is_named(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"0")
    with pytest.raises(CheckpointError, match=r"model.onnx: unknown kind of weights file; expected .safetensors, .npz"):
        load_checkpoint(tmp_path / "model.onnx")


def test_a_missing_folder_is_not_found(tmp_path):
    with pytest.raises(ModelNotFoundError, match="no such model folder or file"):
        load_checkpoint(tmp_path / "missing")


def test_safetensors_are_preferred_to_pickles(tmp_path):
    hf_safetensors(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    assert load_checkpoint(tmp_path).dims == DIMS


# A real-size model


@pytest.mark.shared
def test_a_real_size_model_loads_in_its_own_dimensions(shared):
    checkpoint = load_checkpoint(shared / "models" / "whisper-tiny.en-relearned")
    assert checkpoint.dims == replace(TINY, n_vocab=51864)
    assert np.array_equal(checkpoint.alignment_heads, published_alignment_heads(checkpoint.dims, ""))
    assert "encoder.positional_embedding" not in checkpoint.arrays
    assert all(np.isfinite(array).all() for array in checkpoint.arrays.values())
