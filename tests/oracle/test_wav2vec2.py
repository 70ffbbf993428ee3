"""Our wav2vec2 and HuBERT against transformers', with the same random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from random_wav2vec2 import SMALL_WAV2VEC2, noise, random_wav2vec2, write_wav2vec2
from references import transformers_wav2vec2
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from whisperx.models.wav2vec2 import load_wav2vec2

KINDS = [
    ("base", "wav2vec2"),
    ("large", "wav2vec2"),
    ("aligner", "wav2vec2"),
    ("base", "hubert"),
    ("large", "hubert"),
    ("bare", "hubert"),
]


@pytest.mark.parametrize(("name", "model_type"), KINDS)
@pytest.mark.parametrize("n_samples", [400, 719, 5000, 48001])
def test_log_probabilities_equal_those_of_transformers(
    tmp_path: Path, name: str, model_type: str, n_samples: int
) -> None:
    dims, samples = SMALL_WAV2VEC2[name], noise(n_samples)
    model, _ = load_wav2vec2(write_wav2vec2(tmp_path, dims, model_type=model_type))
    reference = transformers_wav2vec2(dims, random_wav2vec2(dims), model_type)
    with torch.no_grad():
        expected = reference(torch.from_numpy(samples)[None]).logits[0].log_softmax(1).numpy()
    np.testing.assert_allclose(model.emissions([samples], 1)[0], expected, atol=1e-4)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("name", ["base", "large"])
def test_folder_that_transformers_saved_is_read(tmp_path: Path, name: str, safe: bool) -> None:
    dims, samples = SMALL_WAV2VEC2[name], noise(16000)
    reference = transformers_wav2vec2(dims, random_wav2vec2(dims), "wav2vec2")
    write_wav2vec2(tmp_path, dims)  # for its vocabulary
    (tmp_path / "model.safetensors").unlink()
    reference.save_pretrained(tmp_path)
    if not safe:
        (tmp_path / "model.safetensors").unlink()
        torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin")
    model, _ = load_wav2vec2(tmp_path)
    with torch.no_grad():
        expected = reference(torch.from_numpy(samples)[None]).logits[0].log_softmax(1).numpy()
    np.testing.assert_allclose(model.emissions([samples], 1)[0], expected, atol=1e-4)


def test_audio_is_normalised_as_the_feature_extractor_does(tmp_path: Path) -> None:
    dims, samples = SMALL_WAV2VEC2["large"], 3 * noise(16000) + 1
    model, _ = load_wav2vec2(write_wav2vec2(tmp_path, dims, do_normalize=True))
    reference = transformers_wav2vec2(dims, random_wav2vec2(dims), "wav2vec2")
    extract = Wav2Vec2FeatureExtractor(do_normalize=True)
    with torch.no_grad():
        prepared = extract(samples, sampling_rate=16000, return_tensors="pt").input_values
        expected = reference(prepared).logits[0].log_softmax(1).numpy()
    np.testing.assert_allclose(model.emissions([samples], 1)[0], expected, atol=1e-4)


def test_demo_aligner_is_read_by_transformers_too() -> None:
    folder, samples = Path(__file__).parents[2] / "examples" / "demo-aligner", noise(32000)
    model, _ = load_wav2vec2(folder, device="cpu")
    reference = Wav2Vec2ForCTC.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = reference(torch.from_numpy(samples)[None]).logits[0].log_softmax(1).numpy()
    np.testing.assert_allclose(model.emissions([samples], 1)[0], expected, atol=1e-3)
