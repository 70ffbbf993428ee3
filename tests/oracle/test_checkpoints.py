"""Checkpoints that PyTorch, openai-whisper and transformers wrote load to the numbers that they hold."""

import base64
import gzip
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import whisper
from checkpoint_files import DIMS, openai_arrays, write_json
from whisper.model import ModelDimensions

from whisperx.checkpoints import WhisperDimensions, expected_shapes, load_checkpoint, sinusoids
from whisperx.checkpoints.alignment_heads import published_alignment_heads
from whisperx.checkpoints.pytorch import load_torch
from whisperx.errors import CheckpointError


@pytest.fixture(scope="module")
def openai_model() -> whisper.Whisper:
    torch.manual_seed(0)
    model = whisper.Whisper(ModelDimensions(**asdict(DIMS)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


@pytest.fixture(scope="module")
def hf_model() -> transformers.WhisperForConditionalGeneration:
    torch.manual_seed(1)
    config = transformers.WhisperConfig(
        num_mel_bins=DIMS.n_mels, max_source_positions=DIMS.n_audio_ctx, d_model=64, encoder_ffn_dim=256,
        decoder_ffn_dim=256, encoder_layers=DIMS.n_audio_layer, decoder_layers=DIMS.n_text_layer,
        encoder_attention_heads=1, decoder_attention_heads=1, max_target_positions=DIMS.n_text_ctx,
        vocab_size=DIMS.n_vocab, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        begin_suppress_tokens=None,
    )  # fmt: skip
    return transformers.WhisperForConditionalGeneration(config)


def as_loaded(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Weights of openai-whisper under our names and in our layout."""
    arrays = {}
    for name, tensor in state.items():
        if name != "encoder.positional_embedding":
            tensor = tensor.transpose(1, 2) if tensor.ndim == 3 else tensor
            arrays[name.replace("mlp.0", "mlp1").replace("mlp.2", "mlp2")] = tensor.float().numpy()
    return arrays


def assert_equal(loaded: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert loaded.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(loaded[name], array), name


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_openai_checkpoints_that_torch_wrote(dtype, protocol, legacy, openai_model, tmp_path):
    state = {name: tensor.to(dtype) for name, tensor in openai_model.state_dict().items()}
    torch.save(
        {"dims": asdict(DIMS), "model_state_dict": state},
        tmp_path / "model.pt",
        _use_new_zipfile_serialization=not legacy,
        pickle_protocol=protocol,
    )
    checkpoint = load_checkpoint(tmp_path / "model.pt")
    assert checkpoint.dims == DIMS
    assert_equal(checkpoint.arrays, as_loaded(state))


def test_a_state_dict_with_its_metadata_and_parameters(openai_model, tmp_path):
    """`state_dict()` is an OrderedDict with attributes, and may hold parameters."""
    state = openai_model.state_dict(keep_vars=True)
    assert isinstance(state["decoder.ln.weight"], torch.nn.Parameter)
    torch.save(state, tmp_path / "model.pt")
    assert_equal(load_checkpoint(tmp_path / "model.pt").arrays, as_loaded(openai_model.state_dict()))


def test_views_of_one_storage(tmp_path):
    whole = torch.arange(60, dtype=torch.float32)
    views = {
        "whole": whole,
        "part": whole[7:19],
        "transposed": whole[:12].view(3, 4).T,
        "stepped": whole[5::6],
        "three": whole.view(3, 4, 5).permute(2, 0, 1),
        "scalar": whole[11],
        "empty": whole[3:3],
        "bfloat16": whole.bfloat16().view(6, 10)[2:4, 1::3],
        "integers": torch.arange(4),
        "flags": torch.tensor([True, False]),
    }
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pt"
        torch.save(views, path, _use_new_zipfile_serialization=not legacy)
        loaded = load_torch(path)
        assert loaded.keys() == views.keys()
        for name, view in views.items():
            expected = view.float().numpy() if view.dtype == torch.bfloat16 else view.numpy()
            array = loaded[name].read()
            assert array.shape == expected.shape
            assert array.dtype == expected.dtype
            assert np.array_equal(array, expected), name


@pytest.mark.parametrize(
    "unsafe",
    [
        torch.nn.Linear(2, 2),
        {"x": torch.nn.Linear(2, 2)},
        {"x": torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=True)},
        {"x": torch.ones(2, dtype=torch.complex64)},
        {"x": np.ones(2)},
        {"x": Path("a")},
        {"x": {1, 2}},
        {"x": torch.device("cpu")},
    ],
    ids=lambda unsafe: type(unsafe.get("x") if isinstance(unsafe, dict) else unsafe).__name__,
)
def test_what_is_no_plain_tensor_raises(unsafe, tmp_path):
    torch.save(unsafe, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="broken or unsafe pickle"):
        load_torch(tmp_path / "model.pt")


@pytest.mark.parametrize("shard_size", ["1GB", "200KB"])
def test_safetensors_that_transformers_wrote(shard_size, hf_model, tmp_path):
    hf_model.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").is_file() == (shard_size == "200KB")
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.dims == DIMS
    assert_hf_equal(checkpoint.arrays, hf_model)


def test_a_bin_file_with_the_tied_projection_as_transformers_used_to_write_it(hf_model, tmp_path):
    state = hf_model.state_dict()
    assert "proj_out.weight" in state
    torch.save(state, tmp_path / "pytorch_model.bin")
    write_json(tmp_path / "config.json", hf_model.config.to_dict())
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.dims == DIMS
    assert_hf_equal(checkpoint.arrays, hf_model)


def assert_hf_equal(arrays: dict[str, np.ndarray], model: transformers.WhisperForConditionalGeneration) -> None:
    """By modules and not by names, so that a tensor in the wrong place shows."""
    arrays = dict(arrays)
    arrays.pop("encoder.positional_embedding", None)  # random in a new model

    def check(name: str, tensor: torch.Tensor) -> None:
        tensor = tensor.transpose(1, 2) if tensor.ndim == 3 else tensor
        assert np.array_equal(arrays.pop(name), tensor.detach().numpy()), name

    def check_module(name: str, module: torch.nn.Module) -> None:
        for parameter, tensor in module.named_parameters():
            check(f"{name}.{parameter}", tensor)

    encoder, decoder = model.model.encoder, model.model.decoder
    check_module("encoder.conv1", encoder.conv1)
    check_module("encoder.conv2", encoder.conv2)
    check_module("encoder.ln_post", encoder.layer_norm)
    check_module("decoder.ln", decoder.layer_norm)
    check("decoder.token_embedding.weight", model.proj_out.weight)
    check("decoder.positional_embedding", decoder.embed_positions.weight)
    for part, layers in (("encoder", encoder.layers), ("decoder", decoder.layers)):
        for index, layer in enumerate(layers):
            block = f"{part}.blocks.{index}"
            attentions = {"attn": (layer.self_attn, layer.self_attn_layer_norm)}
            if part == "decoder":
                attentions["cross_attn"] = (layer.encoder_attn, layer.encoder_attn_layer_norm)
            for attention, (module, norm) in attentions.items():
                check_module(f"{block}.{attention}.query", module.q_proj)
                check_module(f"{block}.{attention}.key", module.k_proj)
                check_module(f"{block}.{attention}.value", module.v_proj)
                check_module(f"{block}.{attention}.out", module.out_proj)
                check_module(f"{block}.{attention}_ln", norm)
            check_module(f"{block}.mlp1", layer.fc1)
            check_module(f"{block}.mlp2", layer.fc2)
            check_module(f"{block}.mlp_ln", layer.final_layer_norm)
    assert arrays == {}


def test_expected_shapes_are_those_of_openai_whisper():
    for dims in (DIMS, WhisperDimensions(80, 20, 128, 2, 3, 90, 16, 64, 1, 1)):
        state = whisper.Whisper(ModelDimensions(**asdict(dims))).state_dict()
        shapes = {
            name.replace("mlp.0", "mlp1").replace("mlp.2", "mlp2"): (
                (tensor.shape[0], tensor.shape[2], tensor.shape[1]) if tensor.ndim == 3 else tuple(tensor.shape)
            )
            for name, tensor in state.items()
            if name != "encoder.positional_embedding"
        }
        assert expected_shapes(dims) == shapes


def test_sinusoids_are_those_of_openai_whisper_and_transformers():
    from transformers.models.whisper.modeling_whisper import sinusoids as hf_sinusoids

    assert np.allclose(sinusoids(1500, 384), whisper.model.sinusoids(1500, 384).numpy(), rtol=0, atol=2e-4)
    assert np.allclose(sinusoids(1500, 384), hf_sinusoids(1500, 384).numpy(), rtol=0, atol=2e-4)


SIZES = {  # decoder width, heads, layers
    "tiny": (384, 6, 4), "base": (512, 8, 6), "small": (768, 12, 12), "medium": (1024, 16, 24), "large": (1280, 20, 32),
}  # fmt: skip


@pytest.mark.parametrize("name", whisper.available_models())
def test_alignment_heads_are_those_of_openai_whisper(name):
    state, n_head, n_layer = SIZES["large" if "turbo" in name else name.split(".")[0].split("-")[0]]
    n_layer = 4 if "turbo" in name else n_layer
    third = name in ("large", "large-v3", "large-v3-turbo", "turbo")
    n_vocab = 51866 if third else 51864 if name.endswith(".en") else 51865
    dims = WhisperDimensions(128 if third else 80, 1500, state, n_head, n_layer, n_vocab, 448, state, n_head, n_layer)
    mask = np.frombuffer(gzip.decompress(base64.b85decode(whisper._ALIGNMENT_HEADS[name])), dtype=bool)
    expected = np.argwhere(mask.reshape(n_layer, n_head))
    assert np.array_equal(published_alignment_heads(dims, f"{name}.pt"), expected)


def test_our_own_writer_of_torch_files_is_one_that_torch_reads(tmp_path):
    """The users' tests have no torch, so what they build is checked here."""
    from checkpoint_files import write_torch

    arrays = openai_arrays()
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pt"
        write_torch(path, arrays, asdict(DIMS), legacy=legacy)
        loaded = torch.load(path, weights_only=True)
        assert loaded["dims"] == asdict(DIMS)
        for name, array in arrays.items():
            assert np.array_equal(loaded["model_state_dict"][name].numpy(), array), name
