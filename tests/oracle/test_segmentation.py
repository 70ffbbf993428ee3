"""The segmentation network against plain PyTorch, which holds the same weights."""

from copy import deepcopy
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.numpy_helper import to_array
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F  # noqa: N812

from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.models import segmentation
from whisperx.models.segmentation import Segmentation, packaged_powerset_segmentation, packaged_segmentation

TOLERANCE = 1e-4
ASSETS = Path(segmentation.__file__).parents[1] / "assets"
SETS = [c for size in range(3) for c in combinations(range(3), size)]


class SincFilters(nn.Module):
    """Under the names of asteroid_filterbanks' ParamSincFB, which pyannote.audio uses."""

    def __init__(self) -> None:
        super().__init__()
        self.filterbank = nn.Module()
        self.filterbank.low_hz_ = nn.Parameter(torch.linspace(30, 7000, 40)[:, None])
        self.filterbank.band_hz_ = nn.Parameter(torch.full((40, 1), 100.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = (50 + self.filterbank.low_hz_.double().abs()) / SAMPLE_RATE  # cycles per sample
        high = (low + (50 + self.filterbank.band_hz_.double().abs()) / SAMPLE_RATE).clamp(max=0.5)
        n = torch.arange(-125, 126).double()
        even = 2 * high * torch.sinc(2 * high * n) - 2 * low * torch.sinc(2 * low * n)
        over_pi_n = torch.where(n == 0, 0, 1 / (torch.pi * n))
        odd = (torch.cos(2 * torch.pi * low * n) - torch.cos(2 * torch.pi * high * n)) * over_pi_n
        window = torch.hamming_window(251, periodic=False, dtype=torch.double)
        filters = torch.cat([even, odd]) * window / (2 * (high - low)).repeat(2, 1)
        return F.conv1d(x, filters[:, None].to(x.dtype), stride=10)


class SincNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        self.conv1d = nn.ModuleList([SincFilters(), nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)])
        self.norm1d = nn.ModuleList([nn.InstanceNorm1d(n, affine=True) for n in (80, 60, 60)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.wav_norm1d(x)
        for i, (conv, norm) in enumerate(zip(self.conv1d, self.norm1d, strict=True)):
            x = conv(x).abs() if i == 0 else conv(x)
            x = F.leaky_relu(norm(F.max_pool1d(x, 3)))
        return x


class PyanNet(nn.Module):
    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.sincnet = SincNet()
        self.lstm = nn.LSTM(60, 128, num_layers=4, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Windows `(n, 1, n_samples)` -> logits `(n, n_frames, n_classes)`."""
        x = self.lstm(self.sincnet(x).transpose(1, 2))[0]
        for linear in self.linear:
            x = F.leaky_relu(linear(x))
        return self.classifier(x)


@pytest.fixture(scope="module")
def original() -> PyanNet:
    network = PyanNet(3).eval()
    network.load_state_dict(load_file(ASSETS / "pyannote_segmentation.safetensors"))
    return network


@pytest.fixture(scope="module")
def powerset() -> PyanNet:
    network = PyanNet(7).eval()
    network.load_state_dict(load_file(ASSETS / "pyannote_segmentation_3.safetensors"))
    return network


@torch.inference_mode()
def windows_of(network: PyanNet, audio: np.ndarray, window: int, step: int) -> np.ndarray:
    """Logits of windows `step` samples apart; the last one is the first to reach the end of the recording."""
    starts = [0]
    while starts[-1] + window < len(audio):
        starts.append(starts[-1] + step)
    samples = torch.from_numpy(audio).to(network.classifier.weight.dtype)
    return np.concatenate(
        [network(F.pad(samples[s : s + window], (0, max(0, s + window - len(audio))))[None, None]) for s in starts]
    )


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.tanh(x / 2) / 2 + 0.5


def assert_as_exact_as_torch(original: PyanNet, audio: np.ndarray, step_seconds: float) -> None:
    """In a few windows of real speech the network multiplies rounding errors by thousands: torch's own scores in
    float32 are off by 2e-3 there. So the truth is torch in float64, and ours may not be further off than torch's."""
    step = round(step_seconds * SAMPLE_RATE)
    exact = sigmoid(windows_of(deepcopy(original).double(), audio, 80000, step))
    off = np.abs(packaged_segmentation().scores(audio, step_seconds=step_seconds) - exact)
    off_in_torch = np.abs(sigmoid(windows_of(original, audio, 80000, step)) - exact)
    assert off.mean() < TOLERANCE / 10
    assert off.max() < max(5 * TOLERANCE, 1.5 * off_in_torch.max())


@pytest.mark.parametrize(
    "file",
    [
        "diarization/pyannote_sample.wav",
        "diarization/falcon_test.wav",
        "nonspeech/speechbrain_noise3.wav",
        "nonspeech/ina/silence2sec.wav",
        "nonspeech/rir1.wav",
    ],
)
def test_scores_equal_those_of_the_original_network(original: PyanNet, shared: Path, file: str):
    assert_as_exact_as_torch(original, load_audio(shared / "audio" / file)[: 7 * SAMPLE_RATE], 1)


@pytest.mark.parametrize(("scale", "offset"), [(-0.3, 0.1), (20, 0), (0.01, 0)])
def test_loudness_and_a_constant_are_handled_alike(original: PyanNet, shared: Path, scale: float, offset: float):
    audio = load_audio(shared / "audio" / "diarization" / "pyannote_sample.wav")[: 6 * SAMPLE_RATE]
    assert_as_exact_as_torch(original, (scale * audio + offset).astype(np.float32), 1)


@pytest.mark.parametrize("file", ["pyannote_sample.wav", "diarizationExample.wav", "ami_pyannote/tst00.wav"])
def test_packaged_powerset_network_says_the_likeliest_set(powerset: PyanNet, shared: Path, file: str):
    audio = load_audio(shared / "audio" / "diarization" / file)[: 22 * SAMPLE_RATE]
    classes = windows_of(deepcopy(powerset).double(), audio, 160000, 80000).argmax(axis=-1)
    assert len(np.unique(classes)) >= 3, "too few classes to tell anything"
    scores = packaged_powerset_segmentation().scores(audio, step_seconds=5)
    assert scores.shape == (4, 589, 3)
    assert (scores != members_of(classes)).mean() < 1e-3  # two classes within rounding of each other


def members_of(classes: np.ndarray) -> np.ndarray:
    """Who is active in each class, `(..., 3)`."""
    return np.array([[speaker in members for speaker in range(3)] for members in SETS])[classes]


def test_powerset_network_says_the_likeliest_set():
    torch.manual_seed(0)
    network = PyanNet(7).eval()
    for name, parameter in network.named_parameters():
        if "norm" not in name and "filterbank" not in name:
            nn.init.normal_(parameter, std=0.15)
    audio = (np.random.default_rng(0).standard_normal(13 * SAMPLE_RATE) * np.hanning(13 * SAMPLE_RATE)).astype("f4")
    classes = windows_of(network, audio, 160000, 16000).argmax(axis=-1)
    assert len(np.unique(classes)) >= 5, "too few classes to tell anything"

    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    scores = Segmentation(tensors, window_seconds=10, max_active=2).scores(audio)
    assert scores.shape == (4, 589, 3)
    assert (scores != members_of(classes)).mean() < 1e-4  # two classes within rounding of each other


def dequantized(path: Path) -> dict[str, np.ndarray]:
    """PyTorch's tensors from the int8 ONNX file of segmentation-3.0."""
    stored = {tensor.name: to_array(tensor) for tensor in onnx.load(path).graph.initializer}

    def numbers(name: str) -> np.ndarray:
        scale, zero = (np.atleast_1d(stored[f"{name}_{kind}"]) for kind in ("scale", "zero_point"))
        quantized = stored[f"{name}_quantized"].astype(np.float32)
        shape = (-1,) + (1,) * (quantized.ndim - 1) if len(scale) > 1 else (1,) * quantized.ndim
        return (quantized - zero.astype(np.float32).reshape(shape)) * scale.reshape(shape)

    tensors = {name: array for name, array in stored.items() if name.startswith(("sincnet.", "linear.", "classifier."))}
    for n in (1, 2):
        tensors[f"sincnet.conv1d.{n}.weight"] = numbers(f"sincnet.conv1d.{n}.weight")
    for name, number in (("linear.0", 915), ("linear.1", 916), ("classifier", 917)):
        tensors[f"{name}.weight"] = numbers(f"onnx::MatMul_{number}").T
    i, o, f, g = np.split(np.arange(512), 4)  # ONNX's order of the gates
    order = np.concatenate([i, f, g, o])  # PyTorch's
    for layer, number in enumerate((783, 826, 869, 912)):
        weights = {"ih": numbers(f"onnx::LSTM_{number + 1}"), "hh": numbers(f"onnx::LSTM_{number + 2}")}
        biases = np.split(stored[f"onnx::LSTM_{number}"], 2, axis=1)
        for direction, suffix in enumerate((f"l{layer}", f"l{layer}_reverse")):
            for side, bias in zip(("ih", "hh"), biases, strict=True):
                tensors[f"lstm.weight_{side}_{suffix}"] = weights[side][direction].T[order]
                tensors[f"lstm.bias_{side}_{suffix}"] = bias[direction][order]
    return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}


def test_segmentation_3_says_what_its_onnx_file_says(shared: Path):
    """More or less: the file rounds what goes through the network to int8, too."""
    path = shared / "models" / "pyannote-segmentation-3.0-int8" / "model.int8.onnx"
    audio = load_audio(shared / "audio" / "diarization" / "pyannote_sample.wav")[8 * SAMPLE_RATE : 18 * SAMPLE_RATE]
    scores = Segmentation(dequantized(path), window_seconds=10, max_active=2).scores(audio)[0]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    classes = session.run(None, {"x": audio[None, None]})[0][0].argmax(axis=-1)
    expected = members_of(classes)
    assert len(np.unique(classes)) >= 3, "too few classes to tell anything"
    assert (scores == expected).all(axis=1).mean() > 0.85
    assert (scores.any(axis=1) == expected.any(axis=1)).mean() > 0.95
