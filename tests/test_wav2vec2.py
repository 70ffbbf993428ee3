"""wav2vec2 and HuBERT against stored answers of transformers, and what their files may look like."""

import json
import threading
import tracemalloc
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoint_files import write_torch
from random_wav2vec2 import LABELS, SMALL_WAV2VEC2, noise, random_wav2vec2, write_wav2vec2

from whisperx import hub
from whisperx.alignment import DEFAULT_ALIGN_MODELS_HF, DEFAULT_ALIGN_MODELS_TORCH, load_align_model
from whisperx.errors import CheckpointError, ModelNotFoundError
from whisperx.models import ops
from whisperx.models.wav2vec2 import build_wav2vec2, load_wav2vec2

GOLDENS = np.load(Path(__file__).parent / "goldens" / "wav2vec2.npz")
ENGLISH = "|ETAONIHSRDLUMWCFGYPBVK'XJQZ"


@pytest.mark.parametrize("name", SMALL_WAV2VEC2)
def test_log_probabilities_equal_those_of_transformers(tmp_path: Path, name: str) -> None:
    model, labels = load_wav2vec2(write_wav2vec2(tmp_path, SMALL_WAV2VEC2[name]), device="cpu")
    (emission,) = model.emissions([noise(8000)], 1)
    assert emission.dtype == np.float32
    np.testing.assert_allclose(emission, GOLDENS[name], atol=1e-4)
    assert model.frame_seconds == 0.02
    assert list(labels) == LABELS


@pytest.mark.parametrize("name", SMALL_WAV2VEC2)
@pytest.mark.parametrize("n_samples", [400, 20001])
def test_network_of_a_gpu_and_that_of_a_cpu_are_the_same(name: str, n_samples: int) -> None:
    dims = SMALL_WAV2VEC2[name]
    arrays, positions = random_wav2vec2(dims), "encoder.pos_conv_embed.conv.weight"
    arrays[positions] = arrays.pop(positions + "_v") * arrays.pop(positions + "_g")
    network, samples = build_wav2vec2(arrays, dims, mx.float32), noise(n_samples)
    expected = np.asarray(network(mx.array(samples)))
    ops.to_host(network)
    np.testing.assert_allclose(network(samples), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["base", "large"])
def test_neighbours_do_not_change_a_bit_of_an_emission(tmp_path: Path, name: str) -> None:
    model, _ = load_wav2vec2(write_wav2vec2(tmp_path, SMALL_WAV2VEC2[name]), device="cpu")
    recordings = [noise(n, seed=n) for n in (400, 16000, 7001, 16000, 719)]
    alone = [model.emissions([recording], 1)[0] for recording in recordings]
    for batch_size in (1, 2, 8):
        together = model.emissions(recordings, batch_size)
        assert [emission.tobytes() for emission in together] == [emission.tobytes() for emission in alone]


@pytest.mark.parametrize("n_samples", [0, 1, 399])
def test_short_recording_gives_one_frame(tmp_path: Path, n_samples: int) -> None:
    model, _ = load_wav2vec2(write_wav2vec2(tmp_path, SMALL_WAV2VEC2["base"]), device="cpu")
    samples = noise(n_samples)
    (emission,) = model.emissions([samples], 1)
    assert emission.shape == (1, len(LABELS))
    filled = np.concatenate([samples, np.zeros(400 - n_samples, np.float32)])
    np.testing.assert_array_equal(emission, model.emissions([filled], 1)[0])


def test_audio_is_normalised_where_the_preprocessor_says_so_but_not_for_whisperx(tmp_path: Path) -> None:
    dims, samples = SMALL_WAV2VEC2["large"], 3 * noise(8000) + 1
    plain, _ = load_wav2vec2(write_wav2vec2(tmp_path / "plain", dims), device="cpu")
    model, _ = load_wav2vec2(write_wav2vec2(tmp_path / "normal", dims, do_normalize=True), device="cpu")
    normal = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    np.testing.assert_allclose(model.emissions([samples], 1)[0], plain.emissions([normal], 1)[0], atol=1e-5)
    np.testing.assert_array_equal(model.emissions([samples], 1, compat=True)[0], plain.emissions([samples], 1)[0])


def test_threads_share_a_model(tmp_path: Path) -> None:
    model, _ = load_wav2vec2(write_wav2vec2(tmp_path, SMALL_WAV2VEC2["base"]), device="cpu")
    expected, found = model.emissions([noise(8000)], 1)[0], []
    threads = [threading.Thread(target=lambda: found.append(model.emissions([noise(8000)], 1)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [emission.tobytes() for emission in found] == [expected.tobytes()] * 3


TORCHAUDIO_NAMES = {
    "feature_projection.": "encoder.feature_projection.",
    "encoder.": "encoder.transformer.",
    "lm_head.": "aux.",
}


def as_torchaudio(name: str) -> str:
    for ours, theirs in TORCHAUDIO_NAMES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def test_weights_that_torchaudio_downloaded_have_its_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    dims = SMALL_WAV2VEC2["base"]
    arrays = random_wav2vec2(dims)
    order = [0, 1, 2, 3, *(LABELS.index(label) for label in ENGLISH)]
    arrays |= {name: arrays[name][order] for name in ("lm_head.weight", "lm_head.bias")}
    file = cache / "wav2vec2_fairseq_base_ls960_asr_ls960.pth"
    write_torch(file, {as_torchaudio(name): array for name, array in arrays.items()})

    (cache / "config.json").write_text(json.dumps({"num_attention_heads": dims.n_head}))
    for name, folder in ((str(file), None), (None, str(cache)), (None, None)):
        model, metadata = load_align_model("en", "cpu", model_name=name, model_dir=folder)
        assert metadata["type"] == "torchaudio"
        assert metadata["dictionary"] == {label.lower(): i for i, label in enumerate("-" + ENGLISH)}
        (emission,) = model.emissions([noise(8000)], 1)
        expected = GOLDENS["base"][:, [0, *order[4:]]]
        expected = expected - np.log(np.exp(expected).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(emission, expected, atol=1e-4)


def test_folder_gives_its_labels_in_small_letters(tmp_path: Path) -> None:
    folder = write_wav2vec2(tmp_path, SMALL_WAV2VEC2["large"])
    _, metadata = load_align_model("xx", "cpu", model_name=str(folder))
    assert metadata == {
        "language": "xx",
        "type": "huggingface",
        "dictionary": {label.lower(): i for i, label in enumerate(LABELS)},
    }


def test_sizes_follow_from_the_weights_alone(tmp_path: Path) -> None:
    folder = write_wav2vec2(tmp_path, SMALL_WAV2VEC2["large"])
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": settings["num_attention_heads"]}))
    model, _ = load_wav2vec2(folder, device="cpu")
    assert model.dims == SMALL_WAV2VEC2["large"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model_type": "wav2vec2-conformer"}, "wav2vec2-conformer"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"conv_stride": [5, 2]}, "7 convolutions but 2 strides"),
        ({"num_attention_heads": 5}, "5 attention heads"),
        ({"num_attention_heads": 0}, "0 attention heads"),
        ({"num_attention_heads": -1}, "-1 attention heads"),
        ({"num_attention_heads": "3"}, "describe no wav2vec2 or HuBERT network"),
        ({"conv_stride": None}, "describe no wav2vec2 or HuBERT network"),
        ({"layer_norm_eps": None}, "describe no wav2vec2 or HuBERT network"),
        ({"layer_norm_eps": 0}, "describe no wav2vec2 or HuBERT network"),
    ],
)
def test_network_of_another_kind_is_named(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    folder = write_wav2vec2(tmp_path, SMALL_WAV2VEC2["base"], **settings)
    with pytest.raises(CheckpointError, match=told):
        load_wav2vec2(folder, device="cpu")


def test_pre_trained_network_without_labels_is_refused(tmp_path: Path) -> None:
    arrays = {name: array for name, array in random_wav2vec2(SMALL_WAV2VEC2["base"]).items() if "lm_head" not in name}
    folder = write_wav2vec2(tmp_path, SMALL_WAV2VEC2["base"], arrays=arrays)
    with pytest.raises(CheckpointError, match="fine-tuned with CTC"):
        load_wav2vec2(folder, device="cpu")


@pytest.mark.parametrize(
    "name", ["encoder.pos_conv_embed.conv.weight_v", "feature_extractor.conv_layers.1.conv.weight", "lm_head.weight"]
)
def test_weights_with_other_axes_are_refused(tmp_path: Path, name: str) -> None:
    arrays = random_wav2vec2(SMALL_WAV2VEC2["base"])
    folder = write_wav2vec2(tmp_path, SMALL_WAV2VEC2["base"], arrays=arrays | {name: arrays[name].ravel()})
    with pytest.raises(CheckpointError):
        load_wav2vec2(folder, device="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encoder.layers.1.final_layer_norm.weight", r"has shape \(30000, 100\), expected \(48,\)"),
        ("encoder.pos_conv_embed.conv.weight_g", r"magnitudes of .* have shape \(30000, 100\), expected \(1, 1, 16\)"),
        ("lm_head.weight", r"lm_head\.weight has shape \(30000, 100\), expected \(30000, 48\)"),
        ("quantizer.codevectors", None),
    ],
)
def test_forged_weights_are_not_decompressed(tmp_path: Path, name: str, message: str | None) -> None:
    arrays = random_wav2vec2(SMALL_WAV2VEC2["base"])
    folder = write_wav2vec2(tmp_path, SMALL_WAV2VEC2["base"], arrays=arrays)
    (folder / "model.safetensors").unlink()
    zeros = np.zeros((30_000, 100), np.float32)
    np.savez_compressed(folder / "weights.npz", **arrays | {name: zeros})
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=message) if message else nullcontext():
        load_wav2vec2(folder, device="cpu")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * zeros.nbytes


def test_folder_without_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = write_wav2vec2(tmp_path, SMALL_WAV2VEC2["base"])
    (folder / "vocab.json").unlink()
    with pytest.raises(CheckpointError, match=r"vocab\.json"):
        load_wav2vec2(folder, device="cpu")


def test_every_language_of_whisperx_has_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked: list[str] = []

    def fetch(repository: str, *_: object, **__: object) -> Path:
        asked.append(repository)
        raise ModelNotFoundError("offline")

    monkeypatch.setattr(hub, "fetch", fetch)
    languages = {**DEFAULT_ALIGN_MODELS_TORCH, **DEFAULT_ALIGN_MODELS_HF}
    for language in languages:
        with pytest.raises(ModelNotFoundError, match="could not be found"):
            load_align_model(language, "cpu")
    assert len(languages) == len(set(asked)) == 41
    assert asked[:2] == ["facebook/wav2vec2-base-960h", "facebook/wav2vec2-base-10k-voxpopuli-ft-fr"]


def test_language_without_a_model_says_what_helps() -> None:
    with pytest.raises(ModelNotFoundError, match=r"No default align-model for language: th.*attention"):
        load_align_model("th", "cpu")


@pytest.mark.parametrize("name", ["./no-such-folder", "NO_SUCH_BUNDLE", "a/b/c"])
def test_name_that_is_no_model_is_refused_without_a_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(ModelNotFoundError, match=r"could not be found.*WAV2VEC2_ASR_BASE_960H"):
        load_align_model("en", "cpu", model_name=name)


def test_model_that_is_not_here_says_which_command_downloads_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="hf download facebook/wav2vec2-base-960h"):
        load_align_model("en", "cpu", model_dir=str(tmp_path), model_cache_only=True)
