import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import Raw, StoredTensor, global_, opcodes, pickled, torch_zip

from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.errors import CheckpointError
from whisperx.models import segmentation
from whisperx.models.segmentation import (
    FIRST_FRAME_MIDDLE,
    FRAME_STEP,
    Geometry,
    Segmentation,
    load_segmentation,
    overlap_add,
    packaged_powerset_segmentation,
    packaged_segmentation,
    sinc_filters,
)

RNG = np.random.default_rng(0)


def random_tensors(n_classes: int) -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {
        "sincnet.wav_norm1d": (1,), "sincnet.conv1d.1": (60, 80, 5), "sincnet.conv1d.2": (60, 60, 5),
        "sincnet.norm1d.0": (80,), "sincnet.norm1d.1": (60,), "sincnet.norm1d.2": (60,),
        "linear.0": (128, 256), "linear.1": (128, 128), "classifier": (n_classes, 128),
    }  # fmt: skip
    tensors = {f"{name}.weight": 0.3 * RNG.standard_normal(shape) for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": 0.1 * RNG.standard_normal(shape[0]) for name, shape in shapes.items()}
    for layer in range(4):
        for suffix in (f"l{layer}", f"l{layer}_reverse"):
            tensors[f"lstm.weight_ih_{suffix}"] = 0.1 * RNG.standard_normal((512, 256 if layer else 60))
            tensors[f"lstm.weight_hh_{suffix}"] = 0.1 * RNG.standard_normal((512, 128))
            tensors |= {f"lstm.bias_{side}_{suffix}": RNG.standard_normal(512) for side in ("ih", "hh")}
    tensors["sincnet.conv1d.0.filterbank.low_hz_"] = np.linspace(30, 7000, 40)[:, None]
    tensors["sincnet.conv1d.0.filterbank.band_hz_"] = np.full((40, 1), 100)
    return {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}


def noise(seconds: float) -> np.ndarray:
    return RNG.normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Segmentation:
    return Segmentation(random_tensors(3))


@pytest.mark.parametrize("packaged", [packaged_segmentation, packaged_powerset_segmentation])
def test_speech_scores_high_and_the_silence_around_it_low(demo_audio: Path, packaged: Callable[[], Segmentation]):
    audio = np.pad(load_audio(demo_audio)[: 3 * SAMPLE_RATE], 16000)
    network = packaged()
    speech = overlap_add(network.scores(audio).max(axis=2, keepdims=True), network.geometry(), len(audio))[:, 0]
    middles = (FIRST_FRAME_MIDDLE + FRAME_STEP * np.arange(len(speech))) / SAMPLE_RATE
    assert speech[(middles > 1.7) & (middles < 3.1)].mean() > 0.9
    assert speech[(middles < 0.9) | (middles > 4.3)].max() < 0.5


@pytest.mark.parametrize(
    ("window", "step", "n_samples", "n_windows"),
    [
        (80000, 8000, 0, 0),
        (80000, 8000, 1, 1),
        (80000, 8000, 80000, 1),
        (80000, 8000, 80001, 2),
        (80000, 8000, 88000, 2),
        (80000, 8000, 88001, 3),
        (160000, 16000, 480000, 21),
    ],
)
def test_last_window_is_the_first_that_reaches_the_end(window, step, n_samples, n_windows):
    assert Geometry(window, step).n_windows(n_samples) == n_windows


@pytest.mark.parametrize(("window", "n_frames"), [(80000, 293), (160000, 589)])
def test_frames_in_a_window(window, n_frames):
    assert Geometry(window, 8000).n_frames == n_frames


def test_windows_are_scored_alike_alone_and_among_others(network: Segmentation):
    audio = noise(6.2)
    steps = []
    scores = network.scores(audio, on_windows=lambda done, n_windows: steps.append((done, n_windows)))
    assert scores.shape == (4, 293, 3)
    assert scores.dtype == np.float32
    assert steps == [(4, 4)]
    for w in range(4):
        alone = network.scores(np.pad(audio, (0, 80000))[w * 8000 :][:80000])[0]
        np.testing.assert_allclose(scores[w], alone, rtol=0, atol=1e-4)


def test_a_sample_that_is_no_number_counts_as_silence(network: Segmentation):
    audio = noise(2)
    broken = audio.copy()
    audio[100:103], broken[100:103] = 0, [np.nan, np.inf, -np.inf]
    np.testing.assert_array_equal(network.scores(broken), network.scores(audio))


def test_empty_recording_has_no_windows(network: Segmentation):
    scores = network.scores(np.zeros(0, np.float32))
    assert scores.shape == (0, 293, 3)
    assert overlap_add(scores, network.geometry(), 0).shape == (0, 3)


@pytest.mark.parametrize("step_seconds", [0, -1, 5.1, 0.3333])
def test_step_that_cannot_be_is_an_error(network: Segmentation, step_seconds: float):
    with pytest.raises(ValueError, match="step_seconds"):
        network.scores(noise(1), step_seconds=step_seconds)


def test_powerset_network_marks_the_members_of_a_set():
    scores = Segmentation(random_tensors(7), window_seconds=5, max_active=2).scores(noise(2))
    assert scores.shape == (1, 293, 3)
    assert set(np.unique(scores)) <= {0, 1}
    assert scores.sum(axis=2).max() <= 2
    with pytest.raises(ValueError, match="6 classes"):
        Segmentation(random_tensors(6), max_active=2)


@pytest.mark.parametrize(
    ("n_classes", "max_active"), [(1_000_000, 2), (1_000_001, 1), (10**6, 10**6), (1, 2), (12, 1), (7, -1), (7, 0)]
)
def test_more_classes_than_there_are_sets_of_speakers_is_an_error_at_once(n_classes: int, max_active: int):
    with pytest.raises(ValueError, match=f"{n_classes} classes are not the sets"):
        segmentation._sets_of_speakers(n_classes, max_active)


@pytest.mark.parametrize(("n_classes", "max_active", "n_speakers"), [(7, 2, 3), (11, 2, 4), (4, 1, 3), (8, 3, 3)])
def test_classes_are_the_sets_of_speakers(n_classes: int, max_active: int, n_speakers: int):
    sets = segmentation._sets_of_speakers(n_classes, max_active)
    assert sets.shape == (n_classes, n_speakers)
    assert len(np.unique(sets, axis=0)) == n_classes
    assert sets.sum(axis=1).tolist() == sorted(sets.sum(axis=1))
    assert sets.sum(axis=1).max() == max_active


def test_overlapping_windows_are_averaged_by_weight():
    geometry = Geometry(80000, 80000 // 2)
    first, second = np.full((293, 1), 0.2, np.float32), np.full((293, 1), 0.8, np.float32)
    total = overlap_add(np.stack([first, second]), geometry, 120000, hamming=False)[:, 0]
    shift = round(40000 / 270)
    assert len(total) == shift + 293
    cut = overlap_add(np.stack([first, second]), geometry, 100000)
    assert len(cut) == np.sum(FIRST_FRAME_MIDDLE + FRAME_STEP * np.arange(1000) < 100000)
    np.testing.assert_allclose(total[:shift], 0.2, atol=1e-6)
    np.testing.assert_allclose(total[shift:293], 0.5, atol=1e-6)
    np.testing.assert_allclose(total[293:], 0.8, atol=1e-6)
    weighted = overlap_add(np.stack([first, second]), geometry, 120000)[:, 0]
    assert np.all(np.diff(weighted[shift:293]) >= -1e-6), "from one window slowly to the other"
    assert weighted[shift] < 0.3 < 0.7 < weighted[292]


def test_filters_pass_their_band_and_nothing_else():
    filters = sinc_filters(np.array([[450.0], [2950.0]]), np.array([[950.0], [-450.0]]))  # 500-1500, 3000-3500 Hz
    spectrum = np.abs(np.fft.rfft(filters, 16000))  # a bin for each Hz
    for row, (low, high) in enumerate([(500, 1500), (3000, 3500)] * 2):
        inside = spectrum[row, low + 100 : high - 100]
        outside = np.r_[spectrum[row, : low - 100], spectrum[row, high + 100 :]]
        assert outside.max() < 0.01 * inside.min()
    np.testing.assert_allclose(filters[:2], filters[:2, ::-1], atol=1e-7)
    np.testing.assert_allclose(filters[2:], -filters[2:, ::-1], atol=1e-7)


def object_(name: str, state: object = None) -> Raw:
    """Opcodes that make an object of a class, and set its attributes."""
    made = opcodes(global_(name)) + b")\x81"
    return Raw(made if state is None else made + opcodes(state) + b"b")


def write_pyannote(path: Path, tensors: dict[str, np.ndarray], specifications: object) -> Path:
    state = {
        name: StoredTensor(name, "FloatStorage", t.size, 0, t.shape, tuple(step // 4 for step in t.strides)).opcodes(
            legacy=False
        )
        for name, t in tensors.items()
    }
    root = {"state_dict": state, "pyannote.audio": {"specifications": specifications}}
    torch_zip(path, pickled(root), {name: t.tobytes() for name, t in tensors.items()})
    return path


def specifications(**state: object) -> Raw:
    return object_("pyannote.audio.core.task\nSpecifications", state)


def test_checkpoint_of_pyannote_says_how_long_windows_are_and_who_can_be_active(tmp_path: Path):
    tensors = random_tensors(7)
    problem = Raw(opcodes(global_("pyannote.audio.core.task\nProblem")) + opcodes((0,)) + b"R")
    described = specifications(duration=10, powerset_max_classes=2, problem=problem, classes=["a", "b", "c"])
    network = load_segmentation(write_pyannote(tmp_path / "pytorch_model.bin", tensors, described))
    assert (network.window_seconds, network.n_speakers) == (10, 3)
    assert network.geometry() == Geometry(160000, 16000)
    audio = noise(1)
    expected = Segmentation(tensors, window_seconds=10, max_active=2).scores(audio)
    np.testing.assert_array_equal(network.scores(audio), expected)


@pytest.mark.parametrize(
    ("described", "without", "message"),
    [
        (specifications(duration=5), "classifier.weight", "classifier.weight"),
        (specifications(duration=5, powerset_max_classes=2), None, "3 classes"),
        (specifications(classes=["a"]), None, "duration"),
        ({"duration": 5}, None, "without specifications"),
        (object_("os\nsystem"), None, "os system"),
    ],
)
def test_another_checkpoint_is_an_error_that_says_why(described, without, message, tmp_path: Path):
    tensors = {name: tensor for name, tensor in random_tensors(3).items() if name != without}
    with pytest.raises(CheckpointError, match=message):
        load_segmentation(write_pyannote(tmp_path / "pytorch_model.bin", tensors, described))


def test_memory_does_not_grow_with_the_length(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segmentation, "_BATCH", 4)
    network = packaged_segmentation()

    def peak(seconds: int) -> int:
        audio = np.random.default_rng(0).standard_normal(seconds * SAMPLE_RATE).astype(np.float32)
        tracemalloc.start()
        network.scores(audio, step_seconds=2.5)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    growth = (peak(60) - peak(20)) / 40
    assert growth < 6_000, "bytes for a second: what is kept of a window is its scores"
