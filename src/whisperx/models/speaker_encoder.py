"""A voice as a vector: the speaker encoder CAM++ in NumPy.

The network (Wang et al. 2023, arxiv:2303.00332; weights of 3D-Speaker): 80 mel bands go through a few two-dimensional
convolutions, then through 52 densely connected layers, each of which weighs its channels by what it hears around; mean
and deviation over time become a vector of 192 numbers. Two vectors of the same voice point in nearly one direction.

NumPy, because a recording is diarized beside its transcription: the GPU is busy then, and these matrices suit a CPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from whisperx.audio import HOP_LENGTH, N_FFT, SAMPLE_RATE
from whisperx.checkpoints.tensors import open_safetensors
from whisperx.models.host import HostMath, host_math, product
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
_FRAMES_OF_SOUND = 256  # whose spectra are computed at once
_FRAMES_AT_ONCE = 512  # of pieces side by side, and
_BANDS_AT_ONCE = 10  # through such a convolution: enough work in a call that threads seldom wait for the interpreter


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
    math, filters = host_math(), _mel_filters()
    weights = _povey_window() if window is None else window
    everything = np.lib.stride_tricks.sliding_window_view(audio, N_FFT)[::HOP_LENGTH]
    energies = np.empty((len(everything), N_MELS), np.float32)

    def hear(start: int) -> None:
        some = slice(start, start + _FRAMES_OF_SOUND)
        frames = everything[some] - everything[some].mean(axis=1, keepdims=True)
        frames[:, 1:] -= np.float32(0.97) * frames[:, :-1]
        frames[:, 0] *= np.float32(1 - 0.97)
        frames *= weights
        spectrum = np.fft.rfft(frames, 512)[:, :256]
        power: FloatArray = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
        math.multiply(power, filters, energies[some])

    math.for_each(hear, range(0, len(everything), _FRAMES_OF_SOUND))
    np.maximum(energies, np.float32(np.finfo(np.float32).eps), out=energies)
    return np.log(energies, out=energies)


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
        weight = weight.transpose(2, 1, 0).reshape(-1, len(weight))
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

    def __call__(self, pieces: Sequence[FloatArray]) -> FloatArray:
        """Embeddings of length 1, float32 `(n, 192)`, one for each piece; computed on all cores.

        pieces : what `fbank` gives, float32 `(n_frames, 80)`, any number of frames from 1 up; frames need not have
            followed one another

        A piece with values that are no finite numbers has an embedding of NaN.
        """
        embeddings = np.full((len(pieces), N_DIMENSIONS), np.nan, np.float32)
        finite = [index for index, piece in enumerate(pieces) if np.isfinite(piece).all()]

        def embed(group: list[int]) -> None:
            embeddings[group] = self._embed([pieces[index] for index in group])

        self._math.for_each(embed, _grouped(finite, [len(pieces[index]) for index in finite]))
        return embeddings

    def _embed(self, pieces: list[FloatArray]) -> FloatArray:
        """Pieces are laid side by side: larger products, and fewer of them."""
        strip = _Strip.of(tuple(map(len, pieces)))
        bands = np.zeros((N_MELS, 1, strip.width), np.float32)
        for piece, frames in zip(pieces, strip.frames, strict=True):
            bands[:, 0, frames] = (piece - piece.mean(axis=0)).T
        maps = self._first(self._math, bands, strip)  # (80, 32, width)
        for residual in self._residuals:
            maps = residual(self._math, maps, strip)
        maps = self._last(self._math, maps, strip)  # (10, 32, width)

        channels = maps.transpose(1, 0, 2).reshape(-1, strip.width)  # (320, width)
        unfolded = np.lib.stride_tricks.sliding_window_view(channels, 5, axis=1)[:, ::2]  # (320, n_rows, 5)
        rows = np.ascontiguousarray(unfolded.transpose(2, 0, 1)).reshape(-1, unfolded.shape[1]).T
        states = product(self._math, rows, self._entry)
        states += self._shift
        np.maximum(states, 0, out=states)  # (n_rows, 128)
        for block in self._blocks:
            states = block(self._math, states, strip)
        states = _normalised(states, *self._norm_out)
        return np.stack([self._vector(states[rows]) for rows in strip.rows])

    def _vector(self, states: FloatArray) -> FloatArray:
        # The deviation of a single frame is not defined; such a piece has none.
        deviations = states.std(axis=0, ddof=1) if len(states) > 1 else np.zeros_like(states[0])
        vector = np.concatenate([states.mean(axis=0), deviations]) @ self._dense + self._shift_out
        normal: FloatArray = vector / max(float(np.linalg.norm(vector)), 1e-12)
        return normal


def _grouped(indices: list[int], lengths: list[int]) -> list[list[int]]:
    """Neighbours together, as long as they have no more frames than the cache likes."""
    groups: list[list[int]] = []
    n_frames = 0
    for index, length in zip(indices, lengths, strict=True):
        if not groups or n_frames + length > _FRAMES_AT_ONCE:
            groups.append([])
            n_frames = 0
        groups[-1].append(index)
        n_frames += length
    return groups


@dataclass(frozen=True)
class _Strip:
    """Where pieces lie that are computed side by side: so far apart that no convolution reaches from one to the next
    as long as what is between them is 0."""

    width: int  # columns of the maps, one for each frame of a piece
    frames: list[slice]  # columns of each piece
    between: list[slice]  # columns of none
    rows: list[slice]  # of each piece, in the dense layers, where there is one for two columns
    rows_between: list[slice]
    surroundings: list[FloatArray]  # of each piece
    segments: list[slice]  # of each piece, among those of all
    segment_of_row: npt.NDArray[np.intp]

    @property
    def n_segments(self) -> int:
        return int(self.segments[-1].stop)

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, lengths: tuple[int, ...]) -> "_Strip":
        """Row r of the dense layers is heard from columns 2 r to 2 r + 4."""
        frames, rows, end = [], [], -2
        for length in lengths:
            first, end = end + 4, end + 4 + 2 * ((length + 1) // 2)
            frames.append(slice(first, first + length))
            rows.append(slice(first // 2 - 1, end // 2 - 1))
        width = end + 2
        surroundings = [_surroundings(part.stop - part.start) for part in rows]
        ends = np.cumsum([len(means) for means in surroundings]).tolist()
        segments = [slice(start, stop) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
        segment_of_row = np.zeros(rows[-1].stop, np.intp)
        for part, of_piece in zip(rows, segments, strict=True):
            segment_of_row[part] = of_piece.start + np.arange(part.stop - part.start) // _SEGMENT
        between, rows_between = _between(frames, width), _between(rows, rows[-1].stop)
        return cls(width, frames, between, rows, rows_between, surroundings, segments, segment_of_row)

    def clear(self, maps: FloatArray) -> None:
        for columns in self.between:
            maps[:, :, columns] = 0


def _between(parts: list[slice], size: int) -> list[slice]:
    starts, stops = [0, *(part.stop for part in parts)], [*(part.start for part in parts), size]
    return [slice(start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop]


@dataclass(frozen=True)
class _Convolution:
    """3 x 3, over bands and frames, with the normalisation that follows folded in, then the larger of it and 0.

    Maps are `(n_bands, n_channels, width)`. Each band is laid out three times: a frame before, now and a frame after.
    All that an output band hears then lies in one piece of memory.
    """

    matrix: FloatArray  # (32, 3 * 3 * n_in): above, here or below; before, now or after; a channel
    shift: FloatArray  # (32, 1)
    stride: int  # of bands

    @classmethod
    def of(cls, tensors: Tensors, conv: str, norm: str, stride: int) -> "_Convolution":
        scale, shift = _scale_and_shift(tensors, norm)
        weight = tensors[f"{conv}.weight"].astype(np.float32) * scale[:, None, None, None]
        return cls(weight.transpose(0, 2, 3, 1).reshape(len(weight), -1), shift[:, None], stride)

    def __call__(
        self, math: HostMath, maps: FloatArray, strip: _Strip, residual: FloatArray | None = None
    ) -> FloatArray:
        """Maps of n bands -> maps of n / stride; `residual`, such maps too, is added before the larger is taken."""
        n_bands, n_channels, width = maps.shape
        n_at_once = _BANDS_AT_ONCE // self.stride
        heard = np.zeros((self.stride * (n_at_once - 1) + 3, 3, n_channels, width), np.float32)
        step = 3 * n_channels * width
        stack = np.lib.stride_tricks.sliding_window_view(heard.reshape(-1), 3 * step)[:: self.stride * step]
        stack = stack.reshape(n_at_once, -1, width)
        matrices = np.broadcast_to(self.matrix, (n_at_once, *self.matrix.shape))
        outputs = np.empty((n_bands // self.stride, len(self.matrix), width), np.float32)
        for band in range(0, len(outputs), n_at_once):
            _unfold(maps, band * self.stride - 1, heard)
            part = outputs[band : band + n_at_once]
            math.multiply_stacks(matrices, stack, part)
            part += self.shift
            if residual is not None:
                part += residual[band : band + n_at_once]
            np.maximum(part, 0, out=part)
        strip.clear(outputs)
        return outputs


def _unfold(maps: FloatArray, first: int, heard: FloatArray) -> None:
    """Bands from `first` on, a frame before, now and a frame after: `(n, 3, n_channels, width)`, filled; 0 where there
    are no such bands."""
    begin, end = max(first, 0), min(first + len(heard), len(maps))
    heard[: begin - first] = 0
    heard[end - first :] = 0
    places, bands = heard[begin - first : end - first], maps[begin:end]
    places[:, 0, :, 1:] = bands[:, :, :-1]
    places[:, 1] = bands
    places[:, 2, :, :-1] = bands[:, :, 1:]


@dataclass(frozen=True)
class _Residual:
    """Two convolutions and a way around them."""

    convolutions: tuple[_Convolution, _Convolution]
    shortcut: FloatArray | None  # matrix (32, 32), where bands are halved

    @classmethod
    def of(cls, tensors: Tensors, name: str, stride: int) -> "_Residual":
        first = _Convolution.of(tensors, f"{name}.conv1", f"{name}.bn1", stride)
        second = _Convolution.of(tensors, f"{name}.conv2", f"{name}.bn2", 1)
        if stride == 1:
            return cls((first, second), None)
        scale, shift = _scale_and_shift(tensors, f"{name}.shortcut.1")
        weight = tensors[f"{name}.shortcut.0.weight"][:, :, 0, 0].astype(np.float32)
        return cls((first, replace(second, shift=second.shift + shift[:, None])), weight * scale[:, None])

    def __call__(self, math: HostMath, maps: FloatArray, strip: _Strip) -> FloatArray:
        around = maps
        if self.shortcut is not None:
            around = np.empty_like(maps[::2])
            math.multiply_stacks(np.broadcast_to(self.shortcut, (len(around), *self.shortcut.shape)), maps[::2], around)
        first, second = self.convolutions
        return second(math, first(math, maps, strip), strip, around)


@dataclass(frozen=True)
class _Layer:
    """A dense layer: normalise, 128 channels, a convolution over time weighed by the context, 32 channels more."""

    norm: "_Norm"
    narrow: FloatArray  # (n_in, 128), with both normalisations folded in
    narrow_shift: FloatArray
    local: FloatArray  # (128, 3 * 32): what each of three frames adds
    context: tuple[FloatArray, FloatArray]  # (128, 64) and bias
    gate: tuple[FloatArray, FloatArray]  # (64, 32) and bias
    dilation: int

    @classmethod
    def of(cls, tensors: Tensors, name: str, dilation: int) -> "_Layer":
        scale, shift = _scale_and_shift(tensors, f"{name}.nonlinear2.batchnorm")
        norm = _Norm.of(tensors, f"{name}.nonlinear1.batchnorm")
        narrow = (tensors[f"{name}.linear1.weight"][:, :, 0].astype(np.float32) * scale[:, None]).T
        local = tensors[f"{name}.cam_layer.linear_local.weight"].astype(np.float32)  # (32, 128, 3)
        return cls(
            norm,
            narrow * norm.scale[:, None],
            shift + norm.shift @ narrow,
            np.ascontiguousarray(local.transpose(1, 2, 0).reshape(local.shape[1], -1)),
            _matrix_and_bias(tensors, f"{name}.cam_layer.linear1"),
            _matrix_and_bias(tensors, f"{name}.cam_layer.linear2"),
            dilation,
        )

    def __call__(self, math: HostMath, cut: FloatArray, outputs: FloatArray, strip: _Strip) -> None:
        """What is left of states `(n_rows, n_in)` -> outputs `(n_rows, 32)`, filled."""
        narrow = product(math, cut, self.narrow)
        narrow += self.narrow_shift
        np.maximum(narrow, 0, out=narrow)  # (n_rows, 128)
        for rows in strip.rows_between:
            narrow[rows] = 0

        products = product(math, narrow, self.local)  # (n_rows, 3 * 32)
        before, here, after = (products[:, start : start + _GROWTH] for start in (0, _GROWTH, 2 * _GROWTH))
        here[self.dilation :] += before[: -self.dilation]
        here[: -self.dilation] += after[self.dilation :]
        np.multiply(here, self._gates(math, narrow, strip), out=outputs)

    def _gates(self, math: HostMath, narrow: FloatArray, strip: _Strip) -> FloatArray:
        """The weights of the outputs `(n_rows, 32)`, the same for all rows of a segment."""
        around = np.empty((strip.n_segments, narrow.shape[1]), np.float32)
        for rows, segments, means in zip(strip.rows, strip.segments, strip.surroundings, strict=True):
            math.multiply(means, narrow[rows], around[segments])
        hidden = product(math, around, self.context[0])
        hidden += self.context[1]
        np.maximum(hidden, 0, out=hidden)
        gates = product(math, hidden, self.gate[0])
        gates += self.gate[1]
        of_rows: FloatArray = (0.5 + 0.5 * np.tanh(0.5 * gates))[strip.segment_of_row]
        return of_rows


@dataclass(frozen=True)
class _Block:
    """Dense layers, each of which sees what all before it gave, and a layer that halves the channels."""

    layers: list[_Layer]
    norm: "_Norm"
    transit: FloatArray  # (n, n / 2), with the normalisation folded in
    shift: FloatArray  # (n / 2,)

    @classmethod
    def of(cls, tensors: Tensors, name: str, transit: str, n_layers: int, dilation: int) -> "_Block":
        layers = [_Layer.of(tensors, f"{name}.tdnnd{n}", dilation) for n in range(1, n_layers + 1)]
        norm = _Norm.of(tensors, f"{transit}.nonlinear.batchnorm")
        weight = tensors[f"{transit}.linear.weight"][:, :, 0].astype(np.float32).T
        return cls(layers, norm, weight * norm.scale[:, None], norm.shift @ weight)

    def __call__(self, math: HostMath, states: FloatArray, strip: _Strip) -> FloatArray:
        n_rows, n_in = states.shape
        n_all = n_in + _GROWTH * len(self.layers)
        # Were a row a power of two long, all rows would fall on the same few places of the cache.
        everything = np.empty((n_rows, n_all + 16), np.float32)[:, :n_all]
        left = np.empty((n_rows, n_all + 16), np.float32)[:, :n_all]
        everything[:, :n_in] = states
        for number, layer in enumerate(self.layers):
            n_known = n_in + number * _GROWTH
            cut = layer.norm.cut(everything[:, :n_known], left[:, :n_known])
            layer(math, cut, everything[:, n_known : n_known + _GROWTH], strip)
        states = product(math, self.norm.cut(everything, left), self.transit)
        states += self.shift
        return states


@lru_cache(maxsize=8)
def _surroundings(n_frames: int) -> FloatArray:
    """`(n_segments, n_frames)`: times frames, the mean of each segment plus the mean of all."""
    segments = np.arange(n_frames) // _SEGMENT
    is_member = segments == np.arange(segments[-1] + 1)[:, None]
    means: FloatArray = (is_member / is_member.sum(axis=1, keepdims=True) + 1 / n_frames).astype(np.float32)
    return means


@dataclass(frozen=True)
class _Norm:
    """A normalisation followed by the larger of it and 0, as far as a matrix product after it cannot do it.

    With the bound -shift / scale, max(x * scale + shift, 0) is max(x, bound) * scale + shift where the scale is
    positive; where it is negative, as in a few channels, it is min(x, bound) * scale + shift.
    """

    least: FloatArray  # the bound, or -inf
    most: FloatArray | None  # the bound, or inf; None where it is inf for all channels
    scale: FloatArray
    shift: FloatArray

    @classmethod
    def of(cls, tensors: Tensors, name: str) -> "_Norm":
        scale, shift = _scale_and_shift(tensors, name)
        bound = -shift / scale
        least, most = np.where(scale > 0, bound, -np.inf), np.where(scale < 0, bound, np.inf)
        return cls(least.astype(np.float32), most.astype(np.float32) if (scale < 0).any() else None, scale, shift)

    def cut(self, x: FloatArray, out: FloatArray) -> FloatArray:
        """`(n, n_channels)` into `out`: what is left is to multiply by `scale` and to add `shift`."""
        y = np.maximum(x, self.least, out=out)
        return y if self.most is None else np.minimum(y, self.most, out=y)


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
