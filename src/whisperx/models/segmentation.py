"""pyannote's segmentation network (PyanNet) in NumPy: a recording -> who is active, window by window.

The network: learned band-pass filters (SincNet), two convolutions, bidirectional LSTMs of 128 cells, two linear layers
and a classifier. It hears a window of 5 s (segmentation) or 10 s (segmentation-3.0) at a time and scores up to three
speakers in it. Which of them comes first is decided anew in each window.

NumPy, because on a CPU its tanh is vectorised and MLX's is not. Windows are computed side by side, one row each, so
that every step of an LSTM is a matrix product which a BLAS does at full speed; the two directions of a layer are
computed on a core each. The filters run once over neighbouring windows, though these overlap and each is normalised by
itself: filtering is linear.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from whisperx.audio import SAMPLE_RATE
from whisperx.checkpoints.pyannote import open_checkpoint
from whisperx.checkpoints.tensors import Tensor, open_safetensors, read_expected
from whisperx.errors import CheckpointError
from whisperx.models.host import HostMath, host_math, product
from whisperx.schema import Audio

FloatArray: TypeAlias = npt.NDArray[np.float32]
OnWindows: TypeAlias = Callable[[int, int], None]  # called with windows done, windows in all

FRAME_STEP = 270  # samples from one frame to the next: 16.875 ms
FRAME_FIELD = 991  # samples that a frame is computed from before the LSTM: 62 ms
FIRST_FRAME_MIDDLE = FRAME_FIELD // 2  # samples from the start of a window to the middle of its first frame: 31 ms
STEP = 0.1  # of a window, from one window to the next: pyannote's default

_ASSETS = Path(__file__).parents[1] / "assets"

_SINC_TAPS = 251
_SINC_STRIDE = 10
_TAPS = 5
_POOL = 3
_N_CELLS = 128
_EPSILON = 1e-5  # of the normalisations
_LEAK = np.float32(0.01)
_MAX_SPEAKERS = 10  # of a powerset network; published ones have up to 4
_BATCH = 64  # windows computed side by side: more would not fit a processor's cache
_FILTERED_AT_ONCE = 8  # windows that are filtered together, on one core
_FRAMES_AT_ONCE = 16  # of an LSTM's input that are multiplied at once: what comes out fits the cache


@dataclass(frozen=True)
class Geometry:
    """Where windows and frames lie. Window w begins at sample `w * step`; frame f of it is around
    `w * step + FIRST_FRAME_MIDDLE + f * FRAME_STEP`."""

    window: int  # samples
    step: int  # samples

    @property
    def n_frames(self) -> int:
        """Frames in a window: 293 in 5 s, 589 in 10 s."""
        n_frames = (self.window - _SINC_TAPS) // _SINC_STRIDE + 1
        for taps in (1, _TAPS, _TAPS):
            n_frames = (n_frames - taps + 1) // _POOL
        return n_frames

    def n_windows(self, n_samples: int) -> int:
        """Windows in a recording of `n_samples`: the complete ones, and one more where they leave a rest."""
        return 1 + max(0, -((self.window - n_samples) // self.step)) if n_samples else 0

    def first_frame(self, window: int) -> int:
        """Where frame 0 of a window lies among the frames of the recording, FRAME_STEP apart."""
        return round(window * self.step / FRAME_STEP)


class Segmentation:
    """The network with its weights laid out for large matrix products.

    tensors : the original state dict, PyTorch's names and layouts
    window_seconds : how much it was trained to hear at a time
    max_active : None where each speaker has a score of its own; else there is one class for each set of at most so
        many active speakers ("powerset")
    """

    def __init__(
        self, tensors: Mapping[str, FloatArray], *, window_seconds: float = 5.0, max_active: int | None = None
    ) -> None:
        self._math = host_math()
        self.window_seconds = window_seconds
        self._window = round(window_seconds * SAMPLE_RATE)
        self._wave_norm = tensors["sincnet.wav_norm1d.weight"].item(), tensors["sincnet.wav_norm1d.bias"].item()
        filters = sinc_filters(
            tensors["sincnet.conv1d.0.filterbank.low_hz_"], tensors["sincnet.conv1d.0.filterbank.band_hz_"]
        )
        self._filters = np.pad(filters.T, ((0, -_SINC_TAPS % _SINC_STRIDE), (0, 0)))  # (260, 80)
        self._convolutions = [
            (_taps_as_rows(tensors[f"sincnet.conv1d.{n}.weight"]), tensors[f"sincnet.conv1d.{n}.bias"]) for n in (1, 2)
        ]
        self._norms = [(tensors[f"sincnet.norm1d.{n}.weight"], tensors[f"sincnet.norm1d.{n}.bias"]) for n in range(3)]
        self._lstm = [
            tuple(_LstmWeights.of(tensors, f"l{layer}{direction}") for direction in ("", "_reverse"))
            for layer in range(_n_lstm_layers(tensors))
        ]
        self._linear = [(tensors[f"{name}.weight"].T, tensors[f"{name}.bias"]) for name in _linear_layers(tensors)]
        self._classifier = tensors["classifier.weight"].T, tensors["classifier.bias"]
        n_classes = len(self._classifier[1])
        self._sets = None if max_active is None else _sets_of_speakers(n_classes, max_active)
        self.n_speakers = n_classes if self._sets is None else self._sets.shape[1]

    def geometry(self, step_seconds: float | None = None) -> Geometry:
        """Windows `step_seconds` apart, a tenth of their length by default. Raises ValueError when that is no
        whole number of filter positions (0.625 ms), or not more than 0 and at most a window."""
        step = self._window * STEP if step_seconds is None else step_seconds * SAMPLE_RATE
        if not 0 < step <= self._window or abs(step / _SINC_STRIDE - round(step / _SINC_STRIDE)) > 1e-6:
            raise ValueError(f"step_seconds is a multiple of 0.000625 up to {self.window_seconds}, not {step_seconds}")
        return Geometry(self._window, round(step / _SINC_STRIDE) * _SINC_STRIDE)

    def scores(
        self, audio: Audio, *, step_seconds: float | None = None, on_windows: OnWindows | None = None
    ) -> FloatArray:
        """How active each speaker is, from 0 to 1: float32 `(n_windows, n_frames, n_speakers)`.

        audio : float32 `(n_samples,)` at 16 kHz, not empty; behind its end it counts as silent, as do samples that are
            no numbers
        step_seconds : from one window to the next; by default a tenth of a window

        `geometry()` tells where windows and frames lie. The order of speakers is each window's own. A powerset network
        says 1 for the members of the likeliest set and 0 for the others, as pyannote does.
        """
        batches = [self._activities(batch) for batch in self._batches(audio, self.geometry(step_seconds), on_windows)]
        return np.concatenate(batches) if batches else np.empty((0, self.geometry().n_frames, self.n_speakers), "f4")

    def _activities(self, logits: FloatArray) -> FloatArray:
        """`(n, n_frames, n_classes)` -> `(n, n_frames, n_speakers)`."""
        if self._sets is None:
            return np.asarray(np.tanh(logits * np.float32(0.5)) * np.float32(0.5) + np.float32(0.5))
        return np.asarray(self._sets[logits.argmax(axis=-1)])

    def _batches(self, audio: Audio, geometry: Geometry, on_windows: OnWindows | None) -> Iterator[FloatArray]:
        """What comes out for some windows at a time, `(n, n_frames, n_classes)`, before the activation."""
        n_windows = geometry.n_windows(len(audio))
        for start in range(0, n_windows, _BATCH):
            stop = min(start + _BATCH, n_windows)
            yield self._logits(self._features(audio, geometry, range(start, stop)))
            if on_windows is not None:
                on_windows(stop, n_windows)

    def _logits(self, features: FloatArray) -> FloatArray:
        """Features `(n_frames, n, 60)` -> `(n, n_frames, n_classes)`."""
        n_frames, n, _ = features.shape
        for weights in self._lstm:
            features = self._both_directions(weights, features)
        rows = features.reshape(n_frames * n, -1)
        for weight, bias in self._linear:
            rows = _leaky_relu(product(self._math, rows, weight) + bias)
        weight, bias = self._classifier
        return np.asarray((product(self._math, rows, weight) + bias).reshape(n_frames, n, -1).transpose(1, 0, 2))

    def _both_directions(self, weights: tuple["_LstmWeights", ...], inputs: FloatArray) -> FloatArray:
        """A layer over inputs `(n_frames, n, n_in)` -> `(n_frames, n, 256)`: what is heard before, what after."""
        outputs = np.empty((*inputs.shape[:2], 2 * _N_CELLS), np.float32)

        def run(direction: int) -> None:
            cells = slice(direction * _N_CELLS, (direction + 1) * _N_CELLS)
            _recur(self._math, weights[direction], inputs, outputs[:, :, cells], backwards=direction == 1)

        self._math.for_each(run, range(2))
        return outputs

    def _features(self, audio: Audio, geometry: Geometry, windows: range) -> FloatArray:
        """SincNet: the windows -> features `(n_frames, n, 60)`."""
        features = np.empty((geometry.n_frames, len(windows), 60), np.float32)

        def fill(start: int) -> None:
            some = windows[start : start + _FILTERED_AT_ONCE]
            samples = _samples_of_windows(audio, geometry, some.start, some.stop)
            self._fill_features(samples, geometry, features[:, start : start + len(some)])

        self._math.for_each(fill, range(0, len(windows), _FILTERED_AT_ONCE))
        return features

    def _fill_features(self, samples: FloatArray, geometry: Geometry, features: FloatArray) -> None:
        """The windows in `samples` -> features `(n_frames, n, 60)`, filled."""
        hops = np.pad(samples, (0, -len(samples) % _SINC_STRIDE)).reshape(-1, _SINC_STRIDE)
        filtered = self._convolution(hops, self._filters)  # (n_positions, 80)
        n_pooled = ((geometry.window - _SINC_TAPS) // _SINC_STRIDE + 1) // _POOL
        highest, lowest = np.empty((2, n_pooled, filtered.shape[1]), np.float32)
        response = self._filters.sum(axis=0)  # to a constant
        for w in range(features.shape[1]):
            # The window is normalised before the filters: x -> a * x - b. So what came out of them is a * y - b *
            # response, and the largest magnitude among three of that follows from the largest and the smallest y.
            window = samples[w * geometry.step : w * geometry.step + geometry.window]
            scale = self._wave_norm[0] / np.sqrt(window.var() + _EPSILON)
            constant = (scale * window.mean() - self._wave_norm[1]) * np.sign(scale) * response
            first = w * geometry.step // _SINC_STRIDE
            outputs = filtered[first : first + _POOL * n_pooled]
            _pooled(np.maximum, outputs, highest)
            _pooled(np.minimum, outputs, lowest)
            highest *= np.abs(scale)
            highest -= constant
            lowest *= -np.abs(scale)
            lowest += constant
            np.maximum(highest, lowest, out=highest)
            features[:, w] = self._convolved(highest)

    def _convolved(self, pooled: FloatArray) -> FloatArray:
        """What a window's filters gave, pooled, `(n, 80)` -> its features `(n_frames, 60)`."""
        features = _leaky_relu(_normalised(pooled, *self._norms[0]))
        for (weight, bias), norm in zip(self._convolutions, self._norms[1:], strict=True):
            outputs = self._convolution(features, weight)
            n_pooled = len(outputs) // _POOL
            pooled = np.empty((n_pooled, outputs.shape[1]), np.float32)
            _pooled(np.maximum, outputs[: _POOL * n_pooled], pooled)
            pooled += bias
            features = _leaky_relu(_normalised(pooled, *norm))
        return features

    def _convolution(self, rows: FloatArray, weight: FloatArray) -> FloatArray:
        """Rows `(n, n_in)` and taps `(n_taps * n_in, n_out)` -> `(n - n_taps + 1, n_out)`.

        Every n_taps-th row with its followers is a matrix in memory as it is, so nothing need be copied.
        """
        n_taps = len(weight) // rows.shape[1]
        outputs = np.empty((len(rows) - n_taps + 1, weight.shape[1]), np.float32)
        for first in range(min(n_taps, len(outputs))):
            n = len(outputs[first::n_taps])
            unfolded = rows[first : first + n * n_taps].reshape(n, -1)
            self._math.multiply(unfolded, weight, outputs[first::n_taps])
        return outputs


@cache
def packaged_segmentation() -> Segmentation:
    """pyannote/segmentation, with the weights in this package: windows of 5 s, three speakers, each with a score; read
    once. It serves voice detection."""
    return Segmentation(_packaged("pyannote_segmentation"), window_seconds=5)


@cache
def packaged_powerset_segmentation() -> Segmentation:
    """pyannote/segmentation-3.0, with the weights in this package: windows of 10 s, three speakers of whom two may be
    active at once; read once. It serves diarization."""
    return Segmentation(_packaged("pyannote_segmentation_3"), window_seconds=10, max_active=2)


def _packaged(name: str) -> dict[str, FloatArray]:
    tensors = open_safetensors(_ASSETS / f"{name}.safetensors")
    return {name: tensor.read().astype(np.float32) for name, tensor in tensors.items()}


def load_segmentation(path: Path) -> Segmentation:
    """The network in a `pytorch_model.bin` of pyannote.audio: pyannote/segmentation, segmentation-3.0 and later.

    Raises CheckpointError when the file is broken, or holds another network.
    """
    stored, specifications = open_checkpoint(path)
    tensors = read_expected(path, stored, _expected_shapes(stored))
    try:
        max_active = specifications.get("powerset_max_classes")
        return Segmentation(tensors, window_seconds=float(specifications["duration"]), max_active=max_active)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path}: not a segmentation network of pyannote.audio: {error}") from error


def _expected_shapes(stored: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The weights of a network with as many layers as are stored, each linear one as wide as its bias is long."""
    n_filters, n_channels, n_gates = 80, 60, 4 * _N_CELLS
    shapes: dict[str, tuple[int, ...]] = {
        f"sincnet.conv1d.0.filterbank.{edge}_hz_": (n_filters // 2, 1) for edge in ("low", "band")
    }
    for norm, size in (("wav_norm1d", 1), ("norm1d.0", n_filters), ("norm1d.1", n_channels), ("norm1d.2", n_channels)):
        shapes |= {f"sincnet.{norm}.{part}": (size,) for part in ("weight", "bias")}
    for number, n_in in ((1, n_filters), (2, n_channels)):
        name = f"sincnet.conv1d.{number}"
        shapes |= {f"{name}.weight": (n_channels, n_in, _TAPS), f"{name}.bias": (n_channels,)}
    n_in = n_channels
    for layer in range(_n_lstm_layers(stored)):
        for suffix in (f"l{layer}", f"l{layer}_reverse"):
            shapes |= {f"lstm.weight_ih_{suffix}": (n_gates, n_in), f"lstm.weight_hh_{suffix}": (n_gates, _N_CELLS)}
            shapes |= {f"lstm.bias_{side}_{suffix}": (n_gates,) for side in ("ih", "hh")}
        n_in = 2 * _N_CELLS
    for name in [*_linear_layers(stored), "classifier"]:
        n_out = math.prod(stored[f"{name}.bias"].shape) if f"{name}.bias" in stored else _N_CELLS
        shapes |= {f"{name}.bias": (n_out,), f"{name}.weight": (n_out, n_in)}
        n_in = n_out
    return shapes


def _n_lstm_layers(names: Iterable[str]) -> int:
    """Those of which there is any tensor, so that one that lacks some is not taken for none."""
    return len({name.removesuffix("_reverse").rpartition("_l")[2] for name in names if name.startswith("lstm.")})


def _linear_layers(names: Iterable[str]) -> list[str]:
    return sorted({name.rpartition(".")[0] for name in names if name.startswith("linear.")})


def overlap_add(scores: FloatArray, geometry: Geometry, n_samples: int, *, hamming: bool = True) -> FloatArray:
    """The windows' scores averaged where they overlap, as `pyannote.audio.Inference.aggregate` does.

    scores : float32 `(n_windows, n_frames, n)`, of a recording of `n_samples`; columns must mean the same in each
        window, as the largest score among speakers does and single speakers do not
    hamming : give frames at the ends of a window less weight

    Returns float32 `(n_total, n)`: frame f has its middle at sample `FIRST_FRAME_MIDDLE + f * FRAME_STEP`, within the
    recording. The last one may lie up to 1,000 samples before its end, where the last window does.
    """
    n_windows, n_frames, n = scores.shape
    return average_windows(iter(scores), (n_windows, n_frames, n), geometry, n_samples, hamming=hamming)


def average_windows(
    windows: Iterator[FloatArray],
    shape: tuple[int, int, int],
    geometry: Geometry,
    n_samples: int,
    *,
    hamming: bool = True,
) -> FloatArray:
    """What `overlap_add` returns, for scores of that shape of which one window, `(n_frames, n)`, is there at a time."""
    n_windows, n_frames, n = shape
    n_total = geometry.first_frame(max(n_windows - 1, 0)) + n_frames
    weights: FloatArray = (np.hamming(n_frames) if hamming else np.ones(n_frames)).astype(np.float32)[:, None]
    total: FloatArray = np.zeros((n_total, n), np.float32)
    weight: FloatArray = np.zeros((n_total, 1), np.float32)
    for w, window in enumerate(windows):
        frames = slice(geometry.first_frame(w), geometry.first_frame(w) + n_frames)
        total[frames] += window * weights
        weight[frames] += weights
    n_known = max(0, -((FIRST_FRAME_MIDDLE - n_samples) // FRAME_STEP))  # frames whose middle is in the recording
    total /= np.maximum(weight, np.float32(1e-12))
    return total[:n_known]


def sinc_filters(low_hz: FloatArray, band_hz: FloatArray) -> FloatArray:
    """Band-pass filters by their edges, float32 `(2 * n, 251)`: first the even ones, then the odd.

    low_hz, band_hz : learned, `(n, 1)`; a band begins 50 Hz above the first's magnitude and is 50 Hz wider than the
        second's

    The even ones are those of SincNet (Ravanelli and Bengio 2018, https://arxiv.org/abs/1808.00158): differences of two
    sinc functions under a Hamming window. The odd ones are their Hilbert pairs (Pariente et al. 2020,
    https://arxiv.org/abs/1910.10400). Both are divided by twice the width of the band.
    """
    low = 50 + np.abs(low_hz.astype(np.float64))
    high = np.minimum(low + 50 + np.abs(band_hz), SAMPLE_RATE / 2)
    half = _SINC_TAPS // 2
    phase = 2 * np.pi * np.arange(-half, 0) / SAMPLE_RATE  # radians per Hz
    window = np.hamming(_SINC_TAPS)[:half]
    width = 2 * (high - low)
    even = (np.sin(high * phase) - np.sin(low * phase)) / (phase / 2) * window / width
    odd = (np.cos(low * phase) - np.cos(high * phase)) / (phase / 2) * window / width
    centre = np.ones_like(low)
    return np.concatenate(
        [np.hstack([even, centre, even[:, ::-1]]), np.hstack([odd, 0 * centre, -odd[:, ::-1]])]
    ).astype(np.float32)


@dataclass(frozen=True)
class _LstmWeights:
    """One direction of one layer. Gates are in the order i, f, o, g, and the first three halved: then one tanh serves
    all four, since sigmoid(x) = tanh(x / 2) / 2 + 1 / 2. Halving is exact in floating point."""

    inputs: FloatArray  # (n_in, 512)
    hidden: FloatArray  # (128, 512)
    bias: FloatArray  # (512,)

    @classmethod
    def of(cls, tensors: Mapping[str, FloatArray], suffix: str) -> "_LstmWeights":
        i, f, g, o = np.split(np.arange(4 * _N_CELLS), 4)
        order = np.concatenate([i, f, o, g])
        scale = np.repeat(np.array([0.5, 0.5, 0.5, 1.0], np.float32), _N_CELLS)
        bias = tensors[f"lstm.bias_ih_{suffix}"] + tensors[f"lstm.bias_hh_{suffix}"]
        inputs, hidden = (
            np.ascontiguousarray(tensors[f"lstm.weight_{side}_{suffix}"][order].T * scale) for side in ("ih", "hh")
        )
        return cls(inputs, hidden, bias[order] * scale)


def _recur(math: HostMath, weights: _LstmWeights, inputs: FloatArray, outputs: FloatArray, *, backwards: bool) -> None:
    """Run an LSTM over inputs `(n_frames, n, n_in)` from zeros; fills outputs `(n_frames, n, 128)`."""
    n_frames, n, n_in = inputs.shape
    order = range(n_frames)[::-1] if backwards else range(n_frames)
    gates_of_frames = np.empty((_FRAMES_AT_ONCE, n, 4 * _N_CELLS), np.float32)
    hidden, cell = np.zeros((n, _N_CELLS), np.float32), np.zeros((n, _N_CELLS), np.float32)
    product = np.empty((n, _N_CELLS), np.float32)
    for start in range(0, n_frames, _FRAMES_AT_ONCE):
        frames = order[start : start + _FRAMES_AT_ONCE]
        first = min(frames)
        some = gates_of_frames[: len(frames)]
        math.multiply(
            inputs[first : first + len(some)].reshape(-1, n_in), weights.inputs, some.reshape(-1, 4 * _N_CELLS)
        )
        some += weights.bias
        for frame in frames:
            gates = some[frame - first]
            math.multiply(hidden, weights.hidden, gates, add=True)
            np.tanh(gates, gates)
            sigmoids, candidate = gates[:, : 3 * _N_CELLS], gates[:, 3 * _N_CELLS :]
            sigmoids *= 0.5
            sigmoids += 0.5
            # Slices: np.split takes as long as two of these products.
            input_gate, forget_gate = gates[:, :_N_CELLS], gates[:, _N_CELLS : 2 * _N_CELLS]
            output_gate = gates[:, 2 * _N_CELLS : 3 * _N_CELLS]
            cell *= forget_gate
            np.multiply(input_gate, candidate, product)
            cell += product
            np.tanh(cell, product)
            hidden = np.multiply(output_gate, product, outputs[frame])


def _samples_of_windows(audio: Audio, geometry: Geometry, start: int, stop: int) -> FloatArray:
    """The samples of windows `start` to `stop`, zeros beyond the recording."""
    first, last = start * geometry.step, (stop - 1) * geometry.step + geometry.window
    part = np.nan_to_num(audio[first:last], posinf=0, neginf=0)
    samples = np.pad(part, (0, last - first - len(part)))
    samples -= samples.mean()  # no difference to windows that are normalised, but to the rounding of the filters
    return samples


def _pooled(extreme: np.ufunc, rows: FloatArray, out: FloatArray) -> None:
    """The largest, or smallest, of each three neighbouring rows: `(3 * n, n_channels)` -> `(n, n_channels)`, filled."""
    first, second, third = rows.reshape(-1, _POOL, rows.shape[1]).transpose(1, 0, 2)
    extreme(first, second, out=out)
    extreme(out, third, out=out)


def _normalised(x: FloatArray, weight: FloatArray, bias: FloatArray) -> FloatArray:
    """Instance normalisation over the rows of x, `(n, n_channels)`, which is overwritten."""
    x -= x.mean(axis=0)
    variance = np.einsum("tc,tc->c", x, x) / len(x)
    x *= weight / np.sqrt(variance + np.float32(_EPSILON))
    x += bias
    return x


def _leaky_relu(x: FloatArray) -> FloatArray:
    """x itself, overwritten."""
    np.maximum(x, x * _LEAK, out=x)
    return x


def _taps_as_rows(weight: FloatArray) -> FloatArray:
    """A convolution's weight `(n_out, n_in, n_taps)` -> `(n_taps * n_in, n_out)`."""
    return np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, len(weight)))


def _sets_of_speakers(n_classes: int, max_active: int) -> FloatArray:
    """Who is active in each class, `(n_classes, n_speakers)`: nobody, each alone, each two of them, and so on.

    Raises ValueError when no number of speakers up to _MAX_SPEAKERS has so many sets.
    """
    for n_speakers in range(1, _MAX_SPEAKERS + 1):
        sizes = range(min(max_active, n_speakers) + 1)
        if sum(math.comb(n_speakers, size) for size in sizes) == n_classes:
            members = [m for size in sizes for m in combinations(range(n_speakers), size)]
            return np.array([[speaker in m for speaker in range(n_speakers)] for m in members], np.float32)
    raise ValueError(
        f"{n_classes} classes are not the sets of at most {max_active} of up to {_MAX_SPEAKERS} speakers active at once"
    )
