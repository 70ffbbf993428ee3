"""Sound that is no speech, and model folders that are broken: defined results or an error that says what is wrong."""

import math

import numpy as np
import pytest
from random_whisper import random_speech, talker_arrays, write_talker
from safetensors.numpy import save_file

import whisperx
from whisperx.backends.mlx import MlxBackend
from whisperx.errors import AudioError, CheckpointError, OptionError
from whisperx.schema import DecodingOptions, Meter

OPTIONS = DecodingOptions(language="en", max_new_tokens=5, beam_size=1, temperatures=(0.0,))
NOISE = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
SOUNDS = {
    "0 samples": np.zeros(0, np.float32),
    "1 sample": np.full(1, 0.5, np.float32),
    "10 ms": NOISE[:160],
    "digital silence": np.zeros(16000, np.float32),
    "clipped noise": np.clip(100 * NOISE, -1, 1),
    "noise far too loud": 1e6 * NOISE,
    "direct current": np.ones(16000, np.float32),
    "denormal numbers": np.full(16000, 1e-42, np.float32),
}


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    return write_talker(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def backend(talker):
    return MlxBackend(talker, device="cpu")


def decode(backend, chunks, batch_size):
    return backend.decode(chunks, OPTIONS, batch_size=batch_size, on_result=lambda *_: None, meter=Meter())


@pytest.fixture(scope="module")
def together(backend):
    speech = random_speech(2, 0)
    *results, of_speech = decode(backend, [*SOUNDS.values(), speech], 4)
    assert decode(backend, [speech], 1) == [of_speech], "what is no speech must not change its neighbours"
    return dict(zip(SOUNDS, results, strict=True))


@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_that_is_no_speech_has_a_defined_result(backend, together, name):
    result = together[name]
    assert math.isfinite(result.avg_logprob)
    assert result.avg_logprob < 0
    assert 0 <= result.no_speech_prob <= 1
    assert math.isfinite(result.compression_ratio)
    assert len(result.tokens) <= 5
    if name in ("0 samples", "clipped noise"):
        assert decode(backend, [SOUNDS[name]], 1) == [result]


def test_a_chunk_longer_than_the_model_hears_is_refused(backend):
    with pytest.raises(OptionError, match=r"at most 30 s \(480000 samples\), not 480001"):
        decode(backend, [np.zeros(480001, np.float32)], 1)


def test_no_chunks_are_no_results(backend):
    assert decode(backend, [], 8) == []


@pytest.mark.parametrize("samples", [0, 160, 16000])
def test_a_recording_without_speech_has_no_segments(talker, samples):
    pipeline = whisperx.load_model(talker, device="cpu", language="en", asr_options={"beam_size": 1}, backend="mlx")
    assert pipeline.transcribe(np.zeros(samples, np.float32))["segments"] == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_no_sound_are_refused(talker, value):
    pipeline = whisperx.load_model(talker, device="cpu", language="en", backend="mlx")
    audio = np.zeros(16000, np.float32)
    audio[5] = value
    with pytest.raises(AudioError, match="not finite"):
        pipeline.transcribe(audio)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda arrays: arrays.pop("decoder.blocks.1.mlp1.bias"),
            r"tensor decoder\.blocks\.1\.mlp1\.bias of shape \(256,\) is missing",
        ),
        (
            lambda arrays: arrays.update({"encoder.ln_post.weight": np.ones(63, np.float32)}),
            r"tensor encoder\.ln_post\.weight has shape \(63,\), expected \(64,\)",
        ),
    ],
    ids=["missing", "misshapen"],
)
def test_a_tensor_that_is_missing_or_misshapen_is_named(tmp_path, change, message):
    arrays = talker_arrays()
    change(arrays)
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        whisperx.load_model(tmp_path, device="cpu", backend="mlx")
