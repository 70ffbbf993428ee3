"""Weights in 8 and 4 bits: rounded at load or read from a folder, on every device the same numbers."""

import logging
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from random_whisper import SMALL_DIMS, TALKER, checkpoint, random_arrays, random_mel, random_speech, write_talker

from whisperx.backends.mlx import MlxBackend
from whisperx.checkpoints import Quantization
from whisperx.cli import build_parser
from whisperx.errors import OptionError
from whisperx.models.ops import embedding
from whisperx.models.whisper.compute_types import COMPUTE_TYPES, ComputeType, find_compute_type
from whisperx.models.whisper.loading import assemble, build_whisper, round_weights
from whisperx.schema import DecodingOptions, Meter

CPU, GPU = mx.Device(mx.cpu), mx.Device(mx.gpu)
INT8, INT4 = Quantization(64, 8), Quantization(64, 4)
GREEDY = DecodingOptions(language="en", max_new_tokens=12, temperatures=(0.0,))
EMBEDDING = "decoder.token_embedding.weight"


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    return write_talker(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def chunks() -> list[np.ndarray]:
    return [random_speech(1.5 + 2.5 * seed, seed) for seed in range(3)]


def decode(backend, chunks, batch_size=4, options=GREEDY):
    return backend.decode(chunks, options, batch_size=batch_size, on_result=lambda *_: None, meter=Meter())


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
def test_a_cpu_looks_token_embeddings_up_as_they_were_rounded(dtype):
    arrays = {name: array.astype(np.float16) for name, array in random_arrays(TALKER).items()}
    with mx.stream(mx.cpu):
        model = build_whisper(checkpoint(TALKER, arrays), dtype=dtype, quantization=INT8)
    rounded = mx.array(arrays[EMBEDDING][[5, 0]]).astype(dtype).astype(mx.float32)
    assert np.array_equal(embedding(model.decoder.token_embedding, [5, 0]), np.asarray(rounded))


@pytest.mark.parametrize(
    ("name", "device", "stored", "expected"),
    [
        ("default", CPU, None, ComputeType(mx.float32)),
        ("default", GPU, None, ComputeType(mx.float16)),
        ("auto", GPU, None, ComputeType(mx.float16)),
        ("float32", GPU, None, ComputeType(mx.float32)),
        ("bfloat16", GPU, None, ComputeType(mx.bfloat16)),
        ("int8", GPU, None, ComputeType(mx.float16, INT8)),
        ("int8", CPU, None, ComputeType(mx.float16, INT8)),  # the same numbers, then expanded
        ("int4", GPU, None, ComputeType(mx.float16, INT4)),
        ("int8_float16", CPU, None, ComputeType(mx.float16, INT8)),
        ("int8_bfloat16", GPU, None, ComputeType(mx.bfloat16, INT8)),
        ("int8_float32", CPU, None, ComputeType(mx.float32, INT8)),
        ("int16", GPU, None, ComputeType(mx.float16)),
        ("int16", CPU, None, ComputeType(mx.float32)),
        ("default", GPU, INT4, ComputeType(mx.float16, INT4)),  # a folder stays as it is
        ("default", CPU, INT4, ComputeType(mx.float32, INT4)),
        ("float16", GPU, INT4, ComputeType(mx.float16)),  # unless another type is asked for
        ("int8", GPU, INT4, ComputeType(mx.float16, INT8)),
        ("int8", GPU, Quantization(32, 8), ComputeType(mx.float16, Quantization(32, 8))),
    ],
)
def test_each_compute_type_has_its_numbers(name, device, stored, expected):
    assert find_compute_type(name, device, stored) == expected


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_16_bits_on_a_cpu_are_refused(name):
    with pytest.raises(OptionError, match=rf"compute_type {name} is not supported on a CPU.*Use float32"):
        find_compute_type(name, CPU)


def test_an_unknown_type_is_told_what_there_is():
    with pytest.raises(OptionError, match=r"Unknown compute_type: int2; expected one of default, auto, .*int8"):
        find_compute_type("int2", CPU)


def test_the_command_knows_every_compute_type():
    for name in COMPUTE_TYPES:
        assert build_parser().parse_args(["a.wav", "--compute_type", name]).compute_type == name


@pytest.mark.parametrize(
    ("name", "device", "stored", "expected"),
    [
        ("float32", CPU, None, []),
        ("int8", GPU, None, []),
        ("int16", GPU, None, ["INFO compute_type int16: weights are kept as float16"]),
        (
            "int8_float16",
            GPU,
            None,
            ["INFO compute_type int8_float16: weights are kept as 8-bit numbers in groups of 64, the rest float16"],
        ),
        ("float16", GPU, INT4, ["INFO the model's 4-bit weights are converted to float16"]),
        ("int4", CPU, None, ["WARNING weights of 4 bits are expanded to float32"]),
        ("default", CPU, INT4, ["INFO weights of 4 bits are expanded to float32"]),
        ("default", GPU, INT4, []),
    ],
)
def test_a_type_that_becomes_another_says_so(name, device, stored, expected, caplog):
    caplog.set_level(logging.INFO)
    find_compute_type(name, device, stored)
    told = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    assert [line[: len(start)] for line, start in zip(told, expected, strict=True)] == expected


def test_only_linear_layers_are_packed_and_the_rest_has_16_bits():
    weights = round_weights(checkpoint(TALKER, random_arrays(TALKER)), dtype=mx.float16, quantization=INT4)
    packed = {name.removesuffix(".scales") for name in weights if name.endswith(".scales")}
    assert packed == {
        *(f"encoder.blocks.0.attn.{layer}" for layer in ("query", "key", "value", "out")),
        *(f"encoder.blocks.0.{layer}" for layer in ("mlp1", "mlp2")),
        *(
            f"decoder.blocks.{i}.{attention}.{layer}"
            for i in range(2)
            for attention in ("attn", "cross_attn")
            for layer in ("query", "key", "value", "out")
        ),
        *(f"decoder.blocks.{i}.{layer}" for i in range(2) for layer in ("mlp1", "mlp2")),
    }
    for name, array in weights.items():
        is_packed = name.removesuffix(".weight") in packed
        assert array.dtype == (mx.uint32 if is_packed else mx.float16)


def test_a_layer_whose_width_no_group_divides_is_left_alone_and_named(caplog):
    arrays = random_arrays(TALKER)
    weights = round_weights(checkpoint(TALKER, arrays), dtype=mx.float32, quantization=Quantization(128, 8))
    name = "encoder.blocks.0.attn.query.weight"  # 64 wide
    assert np.array_equal(weights[name], arrays[name])
    assert weights["encoder.blocks.0.mlp2.weight"].dtype == mx.uint32  # 256 wide
    assert f"23 layers are not quantised, their width is no multiple of 128: {name}" in caplog.text


@pytest.mark.parametrize("quantization", [INT8, INT4])
def test_packed_layers_compute_what_the_expanded_ones_do(quantization):
    dims = SMALL_DIMS["tiny"]
    source = checkpoint(dims, random_arrays(dims))
    expanded = build_whisper(source, dtype=mx.float32, quantization=quantization)
    weights = round_weights(source, dtype=mx.float32, quantization=quantization)
    packed = assemble(dims, weights, quantization, rows_per_tile=16)
    exact = build_whisper(source, dtype=mx.float32)
    assert "QuantizedLinear" in type(packed.encoder.blocks[0].attn.query).__name__

    logits = {}
    for name, model in (("expanded", expanded), ("packed", packed), ("exact", exact)):
        cross = model.decoder.cross_key_value(model.encoder(mx.array(random_mel(dims).T)))
        logits[name] = np.asarray(model.decoder.logits(model.decoder.prefill([5, 6, 7], cross)[0]))
    np.testing.assert_allclose(logits["packed"], logits["expanded"], atol=1e-4, rtol=1e-4)
    distance = np.abs(logits["exact"] - logits["expanded"]).mean()
    assert 1e-4 < distance < {8: 0.02, 4: 0.4}[quantization.bits]


@pytest.mark.parametrize("compute_type", ["int8", "int4"])
def test_results_are_identical_for_every_batch_size(talker, chunks, compute_type):
    backend = MlxBackend(talker, compute_type=compute_type)
    alone = decode(backend, chunks, 1)
    assert len({result.tokens for result in alone}) > 1
    assert decode(backend, chunks, 2) == alone
    assert decode(backend, chunks[::-1], 3) == alone[::-1]


def test_a_token_embedding_that_a_folder_has_packed_is_used_packed():
    dims = SMALL_DIMS["tiny"]
    arrays = random_arrays(dims)
    packed, scales, biases = (np.asarray(part) for part in mx.quantize(mx.array(arrays[EMBEDDING]), 64, 8))
    arrays |= {EMBEDDING: packed, EMBEDDING.replace("weight", "scales"): scales}
    arrays[EMBEDDING.replace("weight", "biases")] = biases
    source = replace(checkpoint(dims, arrays), quantization=INT8)
    weights = round_weights(source, dtype=mx.float32, quantization=INT8)
    model = assemble(dims, weights, INT8, rows_per_tile=16)
    assert "Quantized" in type(model.decoder.token_embedding).__name__
    hidden = np.random.default_rng(0).standard_normal((3, dims.n_text_state), np.float32)
    expected = build_whisper(source, dtype=mx.float32, quantization=INT8).decoder.logits(hidden)
    np.testing.assert_allclose(model.decoder.logits(mx.array(hidden)), expected, atol=1e-4, rtol=1e-4)
