"""WeSpeaker's ResNet34 on MLX: who is active in a window -> a vector for each of these voices.

The network (https://arxiv.org/abs/2210.17016): 80 mel bands over time as a picture, 33 convolutions in 16 residual
blocks, the mean and the deviation over time of what they find, weighted by when a voice is active, and a linear layer.
The pipelines of pyannote.audio use it. A window goes through the convolutions once, however many voices it has.

It takes 46 billion operations for 10 s, ten times the segmentation network: a job for a GPU.
"""

import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from whisperx.checkpoints.pyannote import open_checkpoint
from whisperx.checkpoints.tensors import read_expected
from whisperx.models.devices import find_device
from whisperx.models.speaker_encoder import fbank
from whisperx.schema import Audio

FloatArray: TypeAlias = npt.NDArray[np.float32]
Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]

_FULL_SCALE = 1 << 15  # WeSpeaker's features are those of 16-bit samples
_HAMMING = np.hamming(400).astype(np.float32)
_LAYERS = ((32, 3), (64, 4), (128, 6), (256, 3))  # channels and blocks
_N_POOLED = 2 * 256 * 10  # mean and deviation, channels, bands
_USUAL_DIMENSIONS = 256
_EPSILON = 1e-5  # of the batch normalisations


class ResNet34:
    """The network, its batch normalisations folded into the convolutions.

    tensors : the state dict of pyannote.audio's WeSpeakerResNet34; `expected_shapes` lists them
    device : as `find_device` takes it

    Raises what `find_device` raises.
    """

    def __init__(self, tensors: Tensors, *, device: str = "auto") -> None:
        self._lock = threading.Lock()
        # A stream for whichever thread holds the lock; MLX's own streams belong to one thread each.
        self._stream = mx.new_thread_unsafe_stream(find_device(device))
        with mx.stream(self._stream):
            self._build(tensors)

    def _build(self, tensors: Tensors) -> None:
        self._first = _Convolution(tensors, "resnet.conv1", "resnet.bn1")
        self._blocks = [
            _Block(tensors, f"resnet.layer{layer}.{block}", stride=2 if layer > 1 and block == 0 else 1)
            for layer, (_, n_blocks) in enumerate(_LAYERS, start=1)
            for block in range(n_blocks)
        ]
        self._weight = mx.array(tensors["resnet.seg_1.weight"].astype(np.float32))
        self._bias = mx.array(tensors["resnet.seg_1.bias"].astype(np.float32))

    @property
    def n_dimensions(self) -> int:
        return int(self._weight.shape[0])

    def __call__(self, window: Audio, masks: npt.NDArray[Any]) -> FloatArray:
        """Embeddings, float32 `(n_voices, n_dimensions)`, of any length.

        window : float32 `(n_samples,)`, at least 400 of them
        masks : `(n_voices, n_frames)`, how much each frame of the window counts for a voice; any number of frames
        """
        features = fbank(window * np.float32(_FULL_SCALE), window=_HAMMING)
        features -= features.mean(axis=0)
        with self._lock, mx.stream(self._stream):
            return self._embeddings(features, masks)

    def _embeddings(self, features: FloatArray, masks: npt.NDArray[Any]) -> FloatArray:
        maps = self._first(mx.array(features.T[None, :, :, None]))  # (1, 80, T, 32)
        for block in self._blocks:
            maps = block(maps)
        n_bands, n_times, n_channels = maps.shape[1:]
        frames = maps[0].transpose(1, 2, 0).reshape(n_times, n_channels * n_bands)  # channels outside, as in PyTorch
        nearest = np.arange(n_times) * masks.shape[1] // n_times
        pooled = _pooled(frames, mx.array(masks[:, nearest].astype(np.float32)))
        return np.array(pooled @ self._weight.T + self._bias)


def load_resnet(path: Path, *, device: str = "auto") -> ResNet34:
    """The network in a `pytorch_model.bin` of pyannote.audio, on a device as `find_device` takes it.

    Raises CheckpointError when the file is broken, or holds another network, and what `find_device` raises.
    """
    tensors, _ = open_checkpoint(path)
    bias = tensors.get("resnet.seg_1.bias")
    n_dimensions = math.prod(bias.shape) if bias is not None else _USUAL_DIMENSIONS
    return ResNet34(read_expected(path, tensors, expected_shapes(n_dimensions)), device=device)


def expected_shapes(n_dimensions: int) -> dict[str, tuple[int, ...]]:
    """The weights of a network whose vectors have so many numbers, with their shapes in PyTorch's layout."""
    shapes = _convolution_shapes("resnet.conv1", "resnet.bn1", 1, 32, 3)
    n_in = 32
    for layer, (n_out, n_blocks) in enumerate(_LAYERS, start=1):
        for block in range(n_blocks):
            name = f"resnet.layer{layer}.{block}"
            shapes |= _convolution_shapes(f"{name}.conv1", f"{name}.bn1", n_in, n_out, 3)
            shapes |= _convolution_shapes(f"{name}.conv2", f"{name}.bn2", n_out, n_out, 3)
            if n_in != n_out:
                shapes |= _convolution_shapes(f"{name}.shortcut.0", f"{name}.shortcut.1", n_in, n_out, 1)
            n_in = n_out
    return shapes | {"resnet.seg_1.weight": (n_dimensions, _N_POOLED), "resnet.seg_1.bias": (n_dimensions,)}


def _convolution_shapes(name: str, norm: str, n_in: int, n_out: int, size: int) -> dict[str, tuple[int, ...]]:
    norms = {f"{norm}.{part}": (n_out,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.weight": (n_out, n_in, size, size), **norms}


class _Convolution:
    """A convolution without bias and the batch normalisation behind it."""

    def __init__(self, tensors: Tensors, name: str, norm: str, stride: int = 1) -> None:
        scale = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + _EPSILON)
        weight = tensors[f"{name}.weight"] * scale[:, None, None, None]
        self._weight = mx.array(weight.transpose(0, 2, 3, 1).astype(np.float32))  # (n_out, height, width, n_in)
        self._bias = mx.array((tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale).astype(np.float32))
        self._stride = stride
        self._padding = self._weight.shape[1] // 2

    def linear(self, x: mx.array) -> mx.array:
        return mx.conv2d(x, self._weight, stride=self._stride, padding=self._padding) + self._bias

    def __call__(self, x: mx.array) -> mx.array:
        return mx.maximum(self.linear(x), 0)


class _Block:
    def __init__(self, tensors: Tensors, name: str, stride: int) -> None:
        self._first = _Convolution(tensors, f"{name}.conv1", f"{name}.bn1", stride)
        self._second = _Convolution(tensors, f"{name}.conv2", f"{name}.bn2")
        is_other_shape = f"{name}.shortcut.0.weight" in tensors
        self._shortcut = (
            _Convolution(tensors, f"{name}.shortcut.0", f"{name}.shortcut.1", stride) if is_other_shape else None
        )

    def __call__(self, x: mx.array) -> mx.array:
        way_round = x if self._shortcut is None else self._shortcut.linear(x)
        return mx.maximum(self._second.linear(self._first(x)) + way_round, 0)


def _pooled(frames: mx.array, weights: mx.array) -> mx.array:
    """Weighted mean and unbiased deviation of frames (T, n) for each row of weights (n_voices, T): (n_voices, 2 n).

    A voice with no weight at all has zeros.
    """
    total = weights.sum(axis=1, keepdims=True) + 1e-8
    mean = weights @ frames / total
    spread = mx.stack([w @ mx.square(frames - m) for w, m in zip(weights, mean, strict=True)])
    squares = mx.square(weights).sum(axis=1, keepdims=True)
    return mx.concatenate([mean, mx.sqrt(spread / (total - squares / total + 1e-8))], axis=1)
