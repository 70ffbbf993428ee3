import re
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from test_segmentation import random_tensors, specifications, write_pyannote
from test_vbx import plda

from whisperx import community
from whisperx.audio import SAMPLE_RATE
from whisperx.checkpoints.tensors import Tensor
from whisperx.community import COMMUNITY, LEGACY, CommunityPipeline, load_community_pipeline
from whisperx.diarize import DiarizationPipeline, load_diarizer
from whisperx.errors import BackendError, CheckpointError, ModelNotFoundError, OptionError
from whisperx.models import resnet, segmentation
from whisperx.models.resnet import load_resnet
from whisperx.models.segmentation import FIRST_FRAME_MIDDLE, FRAME_STEP, Geometry, load_segmentation
from whisperx.speaker_turns import diarize
from whisperx.vbx import Agglomerative, VBx

LEVELS = np.array([0.1, 0.2, 0.4])  # samples at which each of three speakers speaks; two at once: their sum


class LevelSegmenter:
    """Hears who speaks by the level, and names them in another order in each window."""

    def geometry(self, step_seconds: float | None = None) -> Geometry:
        return Geometry(10 * SAMPLE_RATE, SAMPLE_RATE)

    def scores(
        self, audio: np.ndarray, *, step_seconds: float | None = None, on_windows: Callable[[int, int], None]
    ) -> np.ndarray:
        geometry, rng = self.geometry(), np.random.default_rng(0)
        n_windows = geometry.n_windows(len(audio))
        if not n_windows:
            return np.empty((0, geometry.n_frames, 3), np.float32)
        on_windows(n_windows, n_windows)
        middles = FIRST_FRAME_MIDDLE + FRAME_STEP * np.arange(geometry.n_frames)
        samples = np.pad(audio, (0, geometry.window))
        return np.array([speaks(samples[w * SAMPLE_RATE + middles])[:, rng.permutation(3)] for w in range(n_windows)])


class LevelEmbedder:
    n_dimensions = 16

    def __call__(self, window: np.ndarray, masks: np.ndarray) -> np.ndarray:
        middles = FIRST_FRAME_MIDDLE + FRAME_STEP * np.arange(masks.shape[1])
        found = np.zeros((len(masks), 16), np.float32)
        found[:, :3] = 3 * (masks @ speaks(window[middles])) / masks.sum(axis=1, keepdims=True)
        return found


def speaks(samples: np.ndarray) -> np.ndarray:
    tenths = np.round(samples * 10).astype(int)
    return np.stack([tenths >> speaker & 1 for speaker in range(3)], axis=1).astype(np.float32)


def talk(turns: list[tuple[float, float, int]], seconds: float) -> np.ndarray:
    audio = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    for start, end, speaker in turns:
        audio[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] += LEVELS[speaker]
    return audio


TURNS = [(1.0, 6.0, 2), (6.5, 12.0, 0), (12.0, 18.0, 2), (17.0, 23.0, 1), (24.0, 27.0, 0)]
RECORDING = talk(TURNS, 30)
VBX = CommunityPipeline(LevelSegmenter(), LevelEmbedder(), VBx(plda()))
LEGACY_PIPELINE = replace(VBX, clustering=Agglomerative())


@pytest.mark.parametrize("pipeline", [VBX, LEGACY_PIPELINE], ids=["community-1", "3.1"])
def test_turns_are_found_and_speakers_named_by_appearance(pipeline: CommunityPipeline):
    percents: list[float] = []
    found = pipeline(RECORDING, progress_callback=percents.append)
    name = {2: "SPEAKER_00", 0: "SPEAKER_01", 1: "SPEAKER_02"}
    assert [turn.speaker for turn in found.turns] == [name[speaker] for _, _, speaker in TURNS]
    borders = [(turn.start, turn.end) for turn in found.turns]
    np.testing.assert_allclose(borders, [(start, end) for start, end, _ in TURNS], atol=0.03)
    assert list(found.embeddings) == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_02"]
    for speaker, voice in name.items():
        assert found.embeddings[voice][speaker] == pytest.approx(1, abs=0.02)
    assert percents == sorted(percents)
    assert percents[-1] == 100


@pytest.mark.parametrize("pipeline", [VBX, LEGACY_PIPELINE], ids=["community-1", "3.1"])
@pytest.mark.parametrize(
    ("limits", "n_speakers"), [({"num_speakers": 2}, 2), ({"max_speakers": 1}, 1), ({"min_speakers": 3}, 3)]
)
def test_number_of_speakers_is_kept_to(pipeline: CommunityPipeline, limits: dict[str, int], n_speakers: int):
    found = pipeline(RECORDING, **limits)
    assert len({turn.speaker for turn in found.turns}) == n_speakers
    if n_speakers == 1:
        ends = [turn.end for turn in found.turns]
        assert all(turn.start >= end for turn, end in zip(found.turns[1:], ends, strict=False)), "one cannot overlap"


def test_silence_has_no_speakers_and_one_word_has_one():
    for seconds in (0, 1, 12):
        found = VBX(np.zeros(seconds * SAMPLE_RATE, np.float32))
        assert (found.turns, found.embeddings) == ([], {})
    (turn,) = VBX(talk([(0.3, 0.7, 1)], 1)).turns
    assert (turn.start, turn.end) == (pytest.approx(0.3, abs=0.03), pytest.approx(0.7, abs=0.03))
    with pytest.raises(OptionError, match="min_speakers"):
        VBX(RECORDING, min_speakers=3, max_speakers=2)


def test_voices_that_make_no_vector_are_one_speaker():
    class Broken(LevelEmbedder):
        def __call__(self, window: np.ndarray, masks: np.ndarray) -> np.ndarray:
            return np.full((len(masks), 16), np.nan, np.float32)

    found = replace(VBX, embedder=Broken())(RECORDING)
    assert {turn.speaker for turn in found.turns} == {"SPEAKER_00"}


def resnet_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}

    def add(conv: str, norm: str, n_out: int, n_in: int, size: int) -> None:
        tensors[f"resnet.{conv}.weight"] = rng.normal(size=(n_out, n_in, size, size)).astype("f4")
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"resnet.{norm}.{name}"] = np.ones(n_out, "f4")

    add("conv1", "bn1", 32, 1, 3)
    n_in = 32
    for layer, (n_out, n_blocks) in enumerate([(32, 3), (64, 4), (128, 6), (256, 3)], start=1):
        for block in range(n_blocks):
            name = f"layer{layer}.{block}"
            add(f"{name}.conv1", f"{name}.bn1", n_out, n_in, 3)
            add(f"{name}.conv2", f"{name}.bn2", n_out, n_out, 3)
            if n_in != n_out:
                add(f"{name}.shortcut.0", f"{name}.shortcut.1", n_out, n_in, 1)
            n_in = n_out
    tensors["resnet.seg_1.weight"] = np.ones((256, 5120), "f4")
    tensors["resnet.seg_1.bias"] = np.ones(256, "f4")
    return tensors


def test_folder_of_a_pipeline_is_loaded_and_what_it_lacks_is_named(tmp_path: Path):
    described = specifications(duration=10, powerset_max_classes=2)
    with pytest.raises(ModelNotFoundError, match=r"lacks segmentation/pytorch_model\.bin, embedding/"):
        load_community_pipeline(tmp_path)
    for part, tensors in (("segmentation", random_tensors(7)), ("embedding", resnet_tensors())):
        (tmp_path / part).mkdir()
        write_pyannote(tmp_path / part / "pytorch_model.bin", tensors, described)
    pipeline = load_diarizer(tmp_path)
    assert isinstance(pipeline, CommunityPipeline)
    assert isinstance(pipeline.clustering, Agglomerative)
    assert pipeline.segmenter.geometry() == Geometry(160000, 16000)
    assert pipeline.embedder.n_dimensions == 256

    (tmp_path / "plda").mkdir()
    np.savez(tmp_path / "plda" / "xvec_transform.npz", **XVEC)
    np.savez(tmp_path / "plda" / "plda.npz", **PLDA)
    pipeline = load_community_pipeline(str(tmp_path))
    assert isinstance(pipeline.clustering, VBx)
    assert pipeline.clustering.plda.between[0] == pytest.approx(9)
    (tmp_path / "plda" / "plda.npz").write_bytes((tmp_path / "plda" / "xvec_transform.npz").read_bytes())
    with pytest.raises(CheckpointError, match=r"plda\.npz: tensor mu of shape \(128,\) is missing"):
        load_community_pipeline(tmp_path)
    (tmp_path / "plda" / "plda.npz").unlink()
    write_pyannote(tmp_path / "embedding" / "pytorch_model.bin", random_tensors(7), described)
    with pytest.raises(CheckpointError, match=r"embedding.pytorch_model\.bin: tensor resnet\.\S+ of shape"):
        load_community_pipeline(tmp_path)


def test_embeddings_run_on_the_device_asked_for_or_with_a_warning_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    for part, tensors in (("segmentation", random_tensors(7)), ("embedding", resnet_tensors())):
        (tmp_path / part).mkdir()
        write_pyannote(tmp_path / part / "pytorch_model.bin", tensors, specifications(duration=10))
    asked = []

    def without_gpu(name: str) -> mx.Device:
        asked.append(name)
        if name == "cuda:1":
            raise BackendError("no such GPU")
        return mx.Device(mx.cpu)

    monkeypatch.setattr(resnet, "find_device", without_gpu)
    load_diarizer(tmp_path)
    load_diarizer(tmp_path, device="cuda:1")
    DiarizationPipeline(tmp_path, device="cpu")
    assert asked == ["auto", "cuda:1", "cpu", "cpu"]
    assert caplog.messages == ["embeddings of voices run on the CPU: no such GPU"]


XVEC = {"mean1": np.zeros(256), "lda": np.eye(256)[:, :128], "mean2": np.zeros(128)}
PLDA = {"mu": np.zeros(128), "tr": np.eye(128), "psi": np.linspace(1, 9, 128)}
ZEROS = np.zeros((20_000, 100))


@pytest.mark.parametrize(
    ("xvec", "plda", "message"),
    [
        ({}, {"tr": ZEROS}, r"plda\.npz: tensor tr has shape \(20000, 100\), expected \(128, 128\)"),
        ({}, {"psi": np.ones(100)}, r"psi has shape \(100,\), expected \(128,\)"),
        ({"lda": ZEROS[0]}, {}, r"xvec_transform\.npz: tensor lda has shape \(100,\), expected \(256, 128\)"),
        ({"mean1": np.zeros(20_000), "lda": ZEROS, "mean2": np.zeros(100)}, {}, "claims more than 1000000 parameters"),
        ({}, {"surplus": ZEROS}, None),
    ],
)
def test_a_forged_plda_is_not_decompressed(xvec, plda, message, tmp_path: Path):
    files = tmp_path / "xvec_transform.npz", tmp_path / "plda.npz"
    for path, arrays in zip(files, (XVEC | xvec, PLDA | plda), strict=True):
        np.savez_compressed(path, **arrays)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=message) if message else nullcontext():
        assert community._load_plda(*files).between[0] == pytest.approx(9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * ZEROS.nbytes


@pytest.mark.parametrize(
    ("module", "load", "tensors"),
    [(resnet, load_resnet, lambda: resnet_tensors()), (segmentation, load_segmentation, lambda: random_tensors(3))],
    ids=["resnet", "segmentation"],
)
def test_every_weight_that_is_missing_or_misshapen_is_named(module, load, tensors, monkeypatch: pytest.MonkeyPatch):
    def unread() -> np.ndarray:
        raise AssertionError("it was read")

    shapes = {name: array.shape for name, array in tensors().items()}
    for name, shape in shapes.items():
        for changed, message in (({}, "is missing"), ({name: (*shape, 1)}, f"expected {shape}")):
            described = {other: size for other, size in shapes.items() if other != name} | changed
            stored = {other: Tensor(size, "<f4", unread) for other, size in described.items()}
            monkeypatch.setattr(module, "open_checkpoint", lambda path, stored=stored: (stored, {"duration": 5}))
            with pytest.raises(CheckpointError, match=rf"x\.bin: tensor {re.escape(name)} .*{re.escape(message)}"):
                load(Path("x.bin"))


@pytest.mark.parametrize("name", [COMMUNITY, *LEGACY])
def test_pipeline_that_is_not_here_is_an_error_that_names_its_repository(name: str, tmp_path: Path):
    repository = COMMUNITY if name == COMMUNITY else "pyannote/segmentation-3.0"
    with pytest.raises(ModelNotFoundError, match=repository):
        load_community_pipeline(name, cache_dir=tmp_path, local_files_only=True)


def test_unknown_pipeline_is_an_error_that_lists_the_known():
    assert load_diarizer() is diarize
    with pytest.raises(ModelNotFoundError, match=COMMUNITY):
        load_diarizer("nvidia/diar_sortformer_4spk-v1")
