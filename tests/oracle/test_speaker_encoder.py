"""Our CAM++ against the network written plainly in PyTorch from its paper (arxiv:2303.00332), on the same weights, and
our mel bands against transformers' Kaldi-like ones."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from whisperx.checkpoints.tensors import open_safetensors
from whisperx.models.speaker_encoder import WEIGHTS, fbank, load_speaker_encoder

RNG = np.random.default_rng(0)
BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers, dilation


class Plain:
    """The network layer by layer, channels first."""

    def __init__(self) -> None:
        self.tensors = {
            name: torch.from_numpy(tensor.read().astype(np.float32))
            for name, tensor in open_safetensors(WEIGHTS).items()
        }

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = (self.tensors.get(f"{name}.{kind}") for kind in ("weight", "bias"))
        mean, variance = self.tensors[f"{name}.running_mean"], self.tensors[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, weight, bias)

    def conv(self, x: torch.Tensor, name: str, **options: object) -> torch.Tensor:
        convolve = F.conv2d if self.tensors[f"{name}.weight"].ndim == 4 else F.conv1d
        return convolve(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"), **options)

    def residual(self, x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        y = F.relu(self.norm(self.conv(x, f"{name}.conv1", stride=(stride, 1), padding=1), f"{name}.bn1"))
        y = self.norm(self.conv(y, f"{name}.conv2", padding=1), f"{name}.bn2")
        if stride > 1:
            x = self.norm(self.conv(x, f"{name}.shortcut.0", stride=(stride, 1)), f"{name}.shortcut.1")
        return F.relu(x + y)

    def layer(self, x: torch.Tensor, name: str, dilation: int) -> torch.Tensor:
        y = self.conv(F.relu(self.norm(x, f"{name}.nonlinear1.batchnorm")), f"{name}.linear1")
        y = F.relu(self.norm(y, f"{name}.nonlinear2.batchnorm"))
        near = F.avg_pool1d(y, 100, 100, ceil_mode=True).repeat_interleave(100, dim=-1)[..., : y.shape[-1]]
        context = F.relu(self.conv(y.mean(-1, keepdim=True) + near, f"{name}.cam_layer.linear1"))
        gate = torch.sigmoid(self.conv(context, f"{name}.cam_layer.linear2"))
        return self.conv(y, f"{name}.cam_layer.linear_local", padding=dilation, dilation=dilation) * gate

    @torch.no_grad()
    def __call__(self, mel: np.ndarray) -> np.ndarray:
        x = torch.from_numpy((mel - mel.mean(axis=0)).T.copy())[None, None]
        x = F.relu(self.norm(self.conv(x, "head.conv1", padding=1), "head.bn1"))
        for block in ("layer1.0", "layer1.1", "layer2.0", "layer2.1"):
            x = self.residual(x, f"head.{block}", stride=2 if block.endswith("0") else 1)
        x = F.relu(self.norm(self.conv(x, "head.conv2", stride=(2, 1), padding=1), "head.bn2")).flatten(1, 2)
        x = F.relu(
            self.norm(self.conv(x, "xvector.tdnn.linear", stride=2, padding=2), "xvector.tdnn.nonlinear.batchnorm")
        )
        for number, (n_layers, dilation) in enumerate(BLOCKS, start=1):
            for n in range(1, n_layers + 1):
                x = torch.cat([x, self.layer(x, f"xvector.block{number}.tdnnd{n}", dilation)], dim=1)
            transit = f"xvector.transit{number}"
            x = self.conv(F.relu(self.norm(x, f"{transit}.nonlinear.batchnorm")), f"{transit}.linear")
        x = F.relu(self.norm(x, "xvector.out_nonlinear.batchnorm"))
        x = torch.cat([x.mean(-1), x.std(-1)], dim=1)[..., None]
        x = self.norm(self.conv(x, "xvector.dense.linear"), "xvector.dense.nonlinear.batchnorm")[0, :, 0]
        return (x / x.norm()).numpy()


@pytest.mark.parametrize("n_frames", [7, 100, 199, 250, 498])
def test_embeddings_equal_those_of_the_plain_network(n_frames: int):
    mel = RNG.normal(-5, 3, (n_frames, 80)).astype(np.float32)
    np.testing.assert_allclose(load_speaker_encoder()([mel])[0], Plain()(mel), rtol=0, atol=1e-4)


def test_embeddings_do_not_depend_on_what_else_is_embedded():
    pieces = [RNG.normal(-5, 3, (n, 80)).astype(np.float32) for n in (50, 250, 120)]
    together = load_speaker_encoder()(pieces)
    np.testing.assert_array_equal(together, np.concatenate([load_speaker_encoder()([piece]) for piece in pieces]))


def test_mel_bands_equal_those_of_transformers():
    audio = (RNG.normal(0, 0.1, 100_000) + np.sin(np.arange(100_000) / 5)).astype(np.float32)  # several blocks
    filters = mel_filter_bank(
        num_frequency_bins=257,
        num_mel_filters=80,
        min_frequency=20,
        max_frequency=8000,
        sampling_rate=16000,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    expected = spectrogram(
        audio.astype(np.float64),
        window_function(400, "povey", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    ).T
    np.testing.assert_allclose(fbank(audio), expected, rtol=0, atol=2e-3)
