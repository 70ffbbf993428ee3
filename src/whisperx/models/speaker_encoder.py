"""A voice as a vector: the speaker encoder CAM++ in NumPy.

The network (Wang et al. 2023, arxiv:2303.00332; weights of 3D-Speaker): 80 mel bands go through a few two-dimensional
convolutions, then through 52 densely connected layers, each of which weighs its channels by what it hears around; mean
and deviation over time become a vector of 192 numbers. Two vectors of the same voice point in nearly one direction.

NumPy, because a recording is diarized beside its transcription: the GPU is busy then, and these matrices suit a CPU.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from whisperx.audio import HOP_LENGTH, N_FFT, SAMPLE_RATE
from whisperx.checkpoints.tensors import open_safetensors
from whisperx.models.host import HostMath, host_math
from whisperx.schema import Audio

FloatArray: TypeAlias = npt.NDArray[np.float32]
Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]

N_DIMENSIONS = 192
N_MELS = 80
WEIGHTS = Path(__file__).parents[1] / "assets" / "campplus.safetensors"

_EPSILON = 1e-5  # of the normalisations
_BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers of each dense block, and the dilation of their convolutions
_GROWTH = 32  # channels that a dense layer adds
_SEGMENT = 100  # frames of 20 ms over which a dense layer hears what is around
_CHANNELS = 32  # of the two-dimensional convolutions
_BANDS_AT_ONCE = 2  # output bands of such a convolution that one matrix product gives; more would be mostly zeros


def fbank(audio: Audio, *, window: FloatArray | None = None) -> FloatArray:
    """Log energies in 80 mel bands as Kaldi computes them: float32 `(n_frames, 80)`, frame i of samples 160 i to
    160 i + 400.

    audio : float32 `(n_samples,)` at 16 kHz; fewer than 400 samples make no frame
    window : float32 `(400,)`; Povey's if None

    Each frame loses its mean, is sharpened (0.97) and windowed; bands are triangles on the mel scale of HTK
    from 20 Hz up. There is no noise added.
    """
    if len(audio) < N_FFT:
        return np.empty((0, N_MELS), np.float32)
    filters = _mel_filters()
    frames = np.lib.stride_tricks.sliding_window_view(audio, N_FFT)[::HOP_LENGTH]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames[:, 1:] -= np.float32(0.97) * frames[:, :-1]
    frames[:, 0] *= np.float32(1 - 0.97)
    spectrum = np.fft.rfft(frames * (_povey_window() if window is None else window), 512)[:, :256]
    power = spectrum.real**2 + spectrum.imag**2
    return np.log(np.maximum(power @ filters, np.float32(np.finfo(np.float32).eps)))


@cache
def _povey_window() -> FloatArray:
    return (np.hanning(N_FFT) ** 0.85).astype(np.float32)


@cache
def _mel_filters() -> FloatArray:
    """`(256, 80)`; Kaldi's triangles are straight on the mel scale, not in hertz."""

    def mel(frequency: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 1127 * np.log(1 + frequency / 700)

    lowest, highest = mel(np.array([20, SAMPLE_RATE / 2])).tolist()
    edges = np.linspace(lowest, highest, N_MELS + 2)
    bins = mel(np.arange(256) * SAMPLE_RATE / 512)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    filters: FloatArray = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return filters


class SpeakerEncoder:
    """The network with its weights laid out for matrix products.

    tensors : those of `campplus.safetensors`, named as in the original
    """

    def __init__(self, tensors: Tensors) -> None:
        self._math = host_math()
        self._first = _Convolution.of(tensors, "head.conv1", "head.bn1", stride=1)
        self._residuals = [
            _Residual.of(tensors, f"head.layer{layer}.{block}", stride=2 if block == 0 else 1)
            for layer in (1, 2)
            for block in (0, 1)
        ]
        self._last = _Convolution.of(tensors, "head.conv2", "head.bn2", stride=2)

        weight = tensors["xvector.tdnn.linear.weight"].astype(np.float32)  # (128, 32 channels * 10 bands, 5)
        weight = weight.reshape(len(weight), _CHANNELS, -1, 5).transpose(3, 2, 1, 0).reshape(-1, len(weight))
        scale, self._shift = _scale_and_shift(tensors, "xvector.tdnn.nonlinear.batchnorm")
        self._entry = np.ascontiguousarray(weight * scale)  # (5 * 320, 128)
        self._blocks = [
            _Block.of(tensors, f"xvector.block{number}", f"xvector.transit{number}", n_layers, dilation)
            for number, (n_layers, dilation) in enumerate(_BLOCKS, start=1)
        ]
        self._norm_out = _scale_and_shift(tensors, "xvector.out_nonlinear.batchnorm")
        scale, self._shift_out = _scale_and_shift(tensors, "xvector.dense.nonlinear.batchnorm")
        dense = tensors["xvector.dense.linear.weight"][:, :, 0].astype(np.float32)  # (192, 1024)
        self._dense = np.ascontiguousarray((dense * scale[:, None]).T)

    def __call__(
        self, pieces: Sequence[FloatArray], *, on_piece: Callable[[int, int], None] | None = None
    ) -> FloatArray:
        """Embeddings of length 1, float32 `(n, 192)`, one for each piece; computed on all cores.

        pieces : what `fbank` gives, float32 `(n_frames, 80)`, any number of frames from 1 up; frames need not have
            followed one another
        on_piece : called with pieces done, pieces in all

        A piece with values that are no finite numbers has an embedding of NaN.
        """
        embeddings = np.empty((len(pieces), N_DIMENSIONS), np.float32)
        done: list[int] = []

        def embed(index: int) -> None:
            embeddings[index] = self._embed(pieces[index])
            done.append(index)
            if on_piece is not None:
                on_piece(len(done), len(pieces))

        self._math.for_each(embed, range(len(pieces)))
        return embeddings

    def _embed(self, piece: FloatArray) -> FloatArray:
        if not np.isfinite(piece).all():
            return np.full(N_DIMENSIONS, np.nan, np.float32)
        centred = (piece - piece.mean(axis=0))[:, :, None]  # (T, 80, 1)
        maps = self._first(self._math, centred)
        for residual in self._residuals:
            maps = residual(self._math, maps)
        maps = self._last(self._math, maps)  # (T, 10, 32)

        padded = np.pad(maps.reshape(len(maps), -1), ((2, 2), (0, 0)))
        unfolded = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0)[::2].transpose(0, 2, 1)
        states = _multiply(self._math, np.ascontiguousarray(unfolded).reshape(len(unfolded), -1), self._entry)
        states += self._shift
        np.maximum(states, 0, out=states)  # (T / 2, 128)
        for block in self._blocks:
            states = block(self._math, states)
        states = _normalised(states, *self._norm_out)

        # The deviation of a single frame is not defined; such a piece has none.
        deviations = states.std(axis=0, ddof=1) if len(states) > 1 else np.zeros_like(states[0])
        vector = np.concatenate([states.mean(axis=0), deviations]) @ self._dense + self._shift_out
        normal: FloatArray = vector / max(float(np.linalg.norm(vector)), 1e-12)
        return normal


@dataclass(frozen=True)
class _Convolution:
    """3 x 3, over time and bands, with the normalisation that follows folded in, then the larger of it and 0.

    matrix : `(n_bands_read * n_in, 3 * _BANDS_AT_ONCE * 32)`: from the bands that two output bands see to what each of
        three neighbouring frames adds to them
    """

    matrix: FloatArray
    shift: FloatArray  # (32,)
    stride: int  # of bands

    @classmethod
    def of(cls, tensors: Tensors, conv: str, norm: str, stride: int) -> "_Convolution":
        scale, shift = _scale_and_shift(tensors, norm)
        weight = tensors[f"{conv}.weight"].astype(np.float32) * scale[:, None, None, None]
        n_out, n_in, n_bands, n_frames = weight.shape  # (32, 1 or 32, 3, 3)
        n_read = stride * (_BANDS_AT_ONCE - 1) + n_bands
        matrix = np.zeros((n_read, n_in, n_frames, _BANDS_AT_ONCE, n_out), np.float32)
        for band in range(_BANDS_AT_ONCE):
            for tap in range(n_bands):
                matrix[band * stride + tap, :, :, band] = weight[:, :, tap].transpose(1, 2, 0)
        return cls(matrix.reshape(n_read * n_in, -1), shift, stride)

    def __call__(self, math: HostMath, maps: FloatArray, residual: FloatArray | None = None) -> FloatArray:
        """`(n_frames, n_bands, n_in)` -> `(n_frames, n_bands / stride, 32)`."""
        n_frames, n_bands, n_in = maps.shape
        padded = np.zeros((n_frames + 2, n_bands + 2, n_in), np.float32)
        padded[1:-1, 1:-1] = maps
        rows = padded.reshape(n_frames + 2, -1)
        n_read, n_out = len(self.matrix), _BANDS_AT_ONCE * _CHANNELS
        outputs = np.empty((n_frames, n_bands // self.stride * _CHANNELS), np.float32)
        products = np.empty((n_frames + 2, 3 * n_out), np.float32)
        for number in range(outputs.shape[1] // n_out):
            first = number * _BANDS_AT_ONCE * self.stride * n_in
            math.multiply(rows[:, first : first + n_read], self.matrix, products)
            part = outputs[:, number * n_out : (number + 1) * n_out]
            np.add(products[:-2, :n_out], products[1:-1, n_out : 2 * n_out], out=part)
            part += products[2:, 2 * n_out :]
        result = outputs.reshape(n_frames, -1, _CHANNELS)
        result += self.shift
        if residual is not None:
            result += residual
        return np.maximum(result, 0, out=result)


@dataclass(frozen=True)
class _Residual:
    """Two convolutions and a way around them."""

    convolutions: tuple[_Convolution, _Convolution]
    shortcut: tuple[FloatArray, FloatArray] | None  # matrix (32, 32) and shift, where bands are halved

    @classmethod
    def of(cls, tensors: Tensors, name: str, stride: int) -> "_Residual":
        first = _Convolution.of(tensors, f"{name}.conv1", f"{name}.bn1", stride)
        second = _Convolution.of(tensors, f"{name}.conv2", f"{name}.bn2", 1)
        if stride == 1:
            return cls((first, second), None)
        scale, shift = _scale_and_shift(tensors, f"{name}.shortcut.1")
        weight = tensors[f"{name}.shortcut.0.weight"][:, :, 0, 0].astype(np.float32)
        return cls((first, second), (np.ascontiguousarray((weight * scale[:, None]).T), shift))

    def __call__(self, math: HostMath, maps: FloatArray) -> FloatArray:
        around = maps
        if self.shortcut is not None:
            halved = np.ascontiguousarray(maps[:, ::2])
            around = _multiply(math, halved.reshape(-1, _CHANNELS), self.shortcut[0]).reshape(halved.shape)
            around += self.shortcut[1]
        first, second = self.convolutions
        return second(math, first(math, maps), around)


@dataclass(frozen=True)
class _Layer:
    """A dense layer: normalise, 128 channels, a convolution over time weighed by the context, 32 channels more."""

    norm: tuple[FloatArray, FloatArray]
    narrow: FloatArray  # (n_in, 128), with the normalisation that follows folded in
    narrow_shift: FloatArray
    local: FloatArray  # (128, 3 * 32): what each of three frames adds
    context: tuple[FloatArray, FloatArray]  # (128, 64) and bias
    gate: tuple[FloatArray, FloatArray]  # (64, 32) and bias
    dilation: int

    @classmethod
    def of(cls, tensors: Tensors, name: str, dilation: int) -> "_Layer":
        scale, shift = _scale_and_shift(tensors, f"{name}.nonlinear2.batchnorm")
        narrow = tensors[f"{name}.linear1.weight"][:, :, 0].astype(np.float32) * scale[:, None]
        local = tensors[f"{name}.cam_layer.linear_local.weight"].astype(np.float32)  # (32, 128, 3)
        return cls(
            _scale_and_shift(tensors, f"{name}.nonlinear1.batchnorm"),
            np.ascontiguousarray(narrow.T),
            shift,
            np.ascontiguousarray(local.transpose(1, 2, 0).reshape(local.shape[1], -1)),
            _matrix_and_bias(tensors, f"{name}.cam_layer.linear1"),
            _matrix_and_bias(tensors, f"{name}.cam_layer.linear2"),
            dilation,
        )

    def __call__(self, math: HostMath, states: FloatArray, outputs: FloatArray) -> None:
        """States `(n_frames, n_in)` -> outputs `(n_frames, 32)`, filled."""
        narrow = _multiply(math, _normalised(states, *self.norm), self.narrow)
        narrow += self.narrow_shift
        np.maximum(narrow, 0, out=narrow)  # (n_frames, 128)

        products = _multiply(math, narrow, self.local)  # (n_frames, 3 * 32)
        before, here, after = np.split(products, 3, axis=1)
        outputs[:] = here
        outputs[self.dilation :] += before[: -self.dilation]
        outputs[: -self.dilation] += after[self.dilation :]

        whole = narrow.mean(axis=0)
        for start in range(0, len(narrow), _SEGMENT):
            segment = slice(start, start + _SEGMENT)
            hidden = np.maximum((whole + narrow[segment].mean(axis=0)) @ self.context[0] + self.context[1], 0)
            outputs[segment] /= 1 + np.exp(-(hidden @ self.gate[0] + self.gate[1]))


@dataclass(frozen=True)
class _Block:
    """Dense layers, each of which sees what all before it gave, and a layer that halves the channels."""

    layers: list[_Layer]
    norm: tuple[FloatArray, FloatArray]
    transit: FloatArray  # (n, n / 2)

    @classmethod
    def of(cls, tensors: Tensors, name: str, transit: str, n_layers: int, dilation: int) -> "_Block":
        layers = [_Layer.of(tensors, f"{name}.tdnnd{n}", dilation) for n in range(1, n_layers + 1)]
        weight = tensors[f"{transit}.linear.weight"][:, :, 0].astype(np.float32)
        return cls(layers, _scale_and_shift(tensors, f"{transit}.nonlinear.batchnorm"), np.ascontiguousarray(weight.T))

    def __call__(self, math: HostMath, states: FloatArray) -> FloatArray:
        n_frames, n_in = states.shape
        everything = np.empty((n_frames, n_in + _GROWTH * len(self.layers)), np.float32)
        everything[:, :n_in] = states
        for number, layer in enumerate(self.layers):
            n_known = n_in + number * _GROWTH
            layer(math, everything[:, :n_known], everything[:, n_known : n_known + _GROWTH])
        return _multiply(math, _normalised(everything, *self.norm), self.transit)


def _multiply(math: HostMath, a: FloatArray, b: FloatArray) -> FloatArray:
    product = np.empty((len(a), b.shape[1]), np.float32)
    math.multiply(a, b, product)
    return product


def _normalised(x: FloatArray, scale: FloatArray, shift: FloatArray) -> FloatArray:
    y = x * scale
    y += shift
    np.maximum(y, 0, out=y)
    return y


def _matrix_and_bias(tensors: Tensors, name: str) -> tuple[FloatArray, FloatArray]:
    matrix = np.ascontiguousarray(tensors[f"{name}.weight"][:, :, 0].astype(np.float32).T)
    return matrix, tensors[f"{name}.bias"]


def _scale_and_shift(tensors: Tensors, name: str) -> tuple[FloatArray, FloatArray]:
    """A batch normalisation in use as x * scale + shift."""
    variance: FloatArray = tensors[f"{name}.running_var"] + np.float32(_EPSILON)
    scale: FloatArray = np.reciprocal(np.sqrt(variance))
    if f"{name}.weight" in tensors:  # the last one has neither weight nor bias
        scale *= tensors[f"{name}.weight"]
    shift: FloatArray = -tensors[f"{name}.running_mean"] * scale
    if f"{name}.bias" in tensors:
        shift += tensors[f"{name}.bias"]
    return scale, shift


@cache
def load_speaker_encoder() -> SpeakerEncoder:
    """The network with the weights that come with this package; read once."""
    return SpeakerEncoder({name: tensor.read() for name, tensor in open_safetensors(WEIGHTS).items()})
