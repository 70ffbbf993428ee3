"""The speaker embedding of pyannote's pipelines against plain PyTorch on random weights, and fbank against Kaldi's."""

import kaldi_native_fbank as knf
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from whisperx.models.resnet import ResNet34
from whisperx.models.speaker_encoder import fbank

RNG = np.random.default_rng(5)


class Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        changes = stride > 1 or n_in != n_out
        shortcut = [nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)] if changes else []
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        n_in = 32
        for layer, (n_out, n_blocks) in enumerate([(32, 3), (64, 4), (128, 6), (256, 3)], start=1):
            blocks = []
            for block in range(n_blocks):
                blocks.append(Block(n_in, n_out, 2 if layer > 1 and block == 0 else 1))
                n_in = n_out
            setattr(self, f"layer{layer}", nn.Sequential(*blocks))
        self.seg_1 = nn.Linear(2 * 256 * 10, 256)

    def forward(self, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Features `(T, 80)` and masks `(n_voices, n_frames)` -> `(n_voices, 256)`."""
        x = F.relu(self.bn1(self.conv1(features.T[None, None])))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x)))).reshape(256 * 10, -1)
        weights = F.interpolate(masks[None], size=x.shape[1], mode="nearest")[0]
        rows = []
        for weight in weights:
            total = weight.sum() + 1e-8
            mean = (x * weight).sum(1) / total
            variance = ((x - mean[:, None]) ** 2 * weight).sum(1) / (total - (weight**2).sum() / total + 1e-8)
            rows.append(torch.cat([mean, variance.sqrt()]))
        return self.seg_1(torch.stack(rows))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.resnet = Backbone()


def kaldi_fbank(audio: np.ndarray, window_type: str) -> np.ndarray:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = window_type
    options.mel_opts.num_bins = 80
    computer = knf.OnlineFbank(options)
    computer.accept_waveform(16000, audio.tolist())
    computer.input_finished()
    return np.array([computer.get_frame(i) for i in range(computer.num_frames_ready)])


@pytest.mark.parametrize(("name", "window"), [("povey", None), ("hamming", np.hamming(400).astype("f4"))])
@pytest.mark.parametrize("n_samples", [400, 559, 560, 16000])
def test_mel_bands_are_those_of_kaldi(name, window, n_samples):
    audio = (RNG.normal(0, 3000, n_samples) + 1e4 * np.sin(np.arange(n_samples) / 9)).astype(np.float32)
    np.testing.assert_allclose(fbank(audio, window=window), kaldi_fbank(audio, name), rtol=0, atol=2e-3)


@torch.inference_mode()
def test_embeddings_are_those_of_pytorch():
    torch.manual_seed(1)
    network = Network()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    network.eval()
    window = RNG.normal(0, 0.1, 16000 * 2).astype(np.float32)
    masks = (RNG.uniform(size=(4, 117)) > np.array([[0.1], [0.5], [0.9], [1.0]])).astype(np.float32)
    masks[2] = 0
    masks[2, 40] = 1
    features = torch.from_numpy(kaldi_fbank(window * 32768, "hamming")).float()
    expected = network.resnet(features - features.mean(0), torch.from_numpy(masks)).numpy()
    found = ResNet34({name: tensor.numpy() for name, tensor in network.state_dict().items()})(window, masks)
    assert found.shape == (4, 256)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
