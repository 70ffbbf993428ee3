"""Silero VAD v6 (16 kHz) in NumPy: a recording -> one speech probability for every 32 ms.

The network: magnitudes of a 256-point STFT, four convolutions, an LSTM of 128 cells, one output. Only the LSTM needs
the window before, so everything else is a few large matrix products over many windows, and the loop over windows does
one vector-matrix product. NumPy, because such a step is far too small for a device: launching it would cost more. While
one core runs the LSTM over some windows, another does the products of the next ones.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from whisperx.checkpoints.tensors import open_safetensors
from whisperx.models.host import host_math, product
from whisperx.schema import Audio

FloatArray: TypeAlias = npt.NDArray[np.float32]
CellState: TypeAlias = npt.NDArray[np.float64]

WINDOW = 512  # samples for which one probability holds: 32 ms
WEIGHTS = Path(__file__).parents[1] / "assets" / "silero_vad_16k.safetensors"

_CONTEXT = 64  # samples of the window before that a window sees
_N_FFT = 256
_HOP = 128
_N_FRAMES = WINDOW // _HOP  # 4 frames a window
_N_FREQS = _N_FFT // 2 + 1  # 129
_N_CELLS = 128
_CONV_STRIDES = (1, 2, 2, 1)  # 4 frames -> 4 -> 2 -> 1 -> 1
_BLOCK = 256  # windows computed at once: 8 s, and buffers that fit the second-level cache of a core


class SileroNetwork:
    """The network with its weights laid out for large matrix products.

    tensors : those of `silero_vad_16k.safetensors`
    """

    def __init__(self, tensors: Mapping[str, FloatArray]) -> None:
        self._math = host_math()
        self.stft = np.ascontiguousarray(tensors["stft_conv.weight"][:, 0].T)  # (256, 2 * 129): cosines, then sines
        self.layers: list[tuple[FloatArray, FloatArray]] = []
        length = _N_FRAMES
        for number, stride in enumerate(_CONV_STRIDES, start=1):
            matrix = _conv_as_matrix(tensors[f"conv{number}.weight"], length, stride)
            length = -(-length // stride)
            self.layers.append((matrix, np.tile(tensors[f"conv{number}.bias"], length)))

        # The rows of PyTorch's LSTMCell are i, f, g, o. Here the three sigmoid gates come first, and halved: then one
        # tanh serves all four, since sigmoid(x) = tanh(x / 2) / 2 + 1 / 2. Halving is exact in floating point.
        i, f, g, o = np.split(np.arange(4 * _N_CELLS), 4)
        order = np.concatenate([i, f, o, g])
        scale = np.repeat(np.array([0.5, 0.5, 0.5, 1.0], np.float32), _N_CELLS)
        bias = tensors["lstm_cell.bias_ih"] + tensors["lstm_cell.bias_hh"]
        weight_input, weight_hidden = tensors["lstm_cell.weight_ih"], tensors["lstm_cell.weight_hh"]
        self.weight_input = np.ascontiguousarray((weight_input[order] * scale[:, None]).T)  # (128, 512)
        self.weight_hidden = np.ascontiguousarray((weight_hidden[order] * scale[:, None]).T)  # (128, 512)
        self.bias = bias[order] * scale

        self.weight_output = tensors["final_conv.weight"].reshape(_N_CELLS)
        self.bias_output = tensors["final_conv.bias"]

    def __call__(self, audio: Audio) -> FloatArray:
        """Speech probabilities, float32 `(ceil(n_samples / 512),)`: entry i is for samples 512 i to 512 (i + 1).

        The state starts at zero. Behind its end the recording counts as silent, as do samples that are no numbers.
        """
        probabilities = np.empty(-(-len(audio) // WINDOW), np.float32)
        state = np.zeros(_N_CELLS, np.float32), np.zeros(_N_CELLS)
        gates = self._gate_inputs(_samples_of_windows(audio, 0, min(_BLOCK, len(probabilities))))
        for start in range(0, len(probabilities), _BLOCK):
            stop, after = (min(start + n * _BLOCK, len(probabilities)) for n in (1, 2))
            outputs, state, gates = self._hear(gates, state, _samples_of_windows(audio, stop, after))
            logits = np.maximum(outputs, 0) @ self.weight_output + self.bias_output
            probabilities[start:stop] = 1 / (1 + np.exp(-logits))
        return probabilities

    def _hear(
        self, gates: FloatArray, state: tuple[FloatArray, CellState], following: FloatArray
    ) -> tuple[FloatArray, tuple[FloatArray, CellState], FloatArray]:
        """Gate inputs of some windows, the state before and the samples of the windows that follow -> hidden states of
        those windows, the state after, and the gate inputs of those that follow."""
        recurred: list[tuple[FloatArray, CellState]] = []
        next_gates: list[FloatArray] = []
        self._math.for_each(
            lambda work: work(),
            [
                lambda: recurred.append(self._recur(gates, *state)),
                lambda: next_gates.append(self._gate_inputs(following)),
            ],
        )
        ((outputs, cell),) = recurred
        return outputs, (outputs[-1], cell), next_gates[0]

    def _gate_inputs(self, samples: FloatArray) -> FloatArray:
        """Samples `(64 + 512 n + 64,)` of n windows -> what the windows add to the LSTM's gates, `(n, 512)`."""
        if len(samples) < WINDOW:
            return np.empty((0, 4 * _N_CELLS), np.float32)
        # Four frames a window. The last one reaches 64 samples beyond it, where the window is mirrored.
        frames = np.lib.stride_tricks.sliding_window_view(samples, _N_FFT)[::_HOP]
        frames = frames.reshape(-1, _N_FRAMES, _N_FFT).copy()  # (n, 4, 256)
        frames[:, 3, 192:] = frames[:, 3, 190:126:-1]

        spectrum = product(self._math, frames.reshape(-1, _N_FFT), self.stft)  # (4 n, 2 * 129)
        np.square(spectrum, out=spectrum)
        magnitudes = spectrum[:, :_N_FREQS] + spectrum[:, _N_FREQS:]
        np.sqrt(magnitudes, out=magnitudes)

        features: FloatArray = magnitudes.reshape(-1, _N_FRAMES * _N_FREQS)
        for matrix, bias in self.layers:
            features = product(self._math, features, matrix)
            features += bias
            np.maximum(features, 0, out=features)
        features = product(self._math, features, self.weight_input)
        features += self.bias
        return features

    def _recur(self, gate_inputs: FloatArray, hidden: FloatArray, cell: CellState) -> tuple[FloatArray, CellState]:
        """Gate inputs `(n, 512)` and the state before -> hidden states `(n, 128)` and the last cell state.

        The products are float32, gates and cells float64: a cell that hardly forgets adds up rounding errors for
        minutes, which came to 1e-4 in the probabilities. 112,500 steps an hour: arrays are made before the loop.
        """
        outputs = np.empty((len(gate_inputs), _N_CELLS), np.float32)
        hidden_part = np.empty(4 * _N_CELLS, np.float32)
        # One buffer of [i f o g c], so that [i f] * [g c] is one product.
        buffer = np.empty(5 * _N_CELLS)
        gates, sigmoids, output_gate, cell_state = buffer[:512], buffer[:384], buffer[256:384], buffer[512:]
        input_forget, candidate_cell = buffer[:256], buffer[384:]
        products = np.empty(2 * _N_CELLS)
        cell_tanh = np.empty(_N_CELLS)

        cell_state[:] = cell
        for gate_input, output in zip(gate_inputs, outputs, strict=True):
            np.dot(hidden, self.weight_hidden, hidden_part)
            np.add(hidden_part, gate_input, gates)
            np.tanh(gates, gates)
            np.multiply(sigmoids, 0.5, sigmoids)
            np.add(sigmoids, 0.5, sigmoids)
            np.multiply(input_forget, candidate_cell, products)
            np.add(products[:_N_CELLS], products[_N_CELLS:], cell_state)
            np.tanh(cell_state, cell_tanh)
            np.multiply(output_gate, cell_tanh, output)
            hidden = output
        return outputs, cell_state


@cache
def load_silero() -> SileroNetwork:
    """The network with the weights that come with this package; read once."""
    return SileroNetwork({name: tensor.read() for name, tensor in open_safetensors(WEIGHTS).items()})


def _samples_of_windows(audio: Audio, start: int, stop: int) -> FloatArray:
    """The samples of windows `start` to `stop` with 64 more on each side, zeros beyond the recording."""
    first, last = start * WINDOW - _CONTEXT, stop * WINDOW + _CONTEXT
    # The state remembers, so a single NaN would make every later probability one too.
    part = np.nan_to_num(audio[max(first, 0) : last], posinf=0, neginf=0)
    before = max(-first, 0)
    return np.pad(part, (before, last - first - before - len(part)))


def _conv_as_matrix(weight: npt.NDArray[Any], length: int, stride: int) -> FloatArray:
    """A convolution of a fixed short length, zero-padded by one on both sides, as one matrix.

    weight : `(n_out, n_in, 3)`; returns `(length * n_in, ceil(length / stride) * n_out)`, position-major on both sides.
    A third of it is zeros, and it is still faster than unfolding the input.
    """
    n_out, n_in, kernel = weight.shape
    n_positions = -(-length // stride)
    matrix = np.zeros((length, n_in, n_positions, n_out), np.float32)
    for position in range(n_positions):
        for tap in range(kernel):
            source = position * stride + tap - 1
            if 0 <= source < length:
                matrix[source, :, position] = weight[:, :, tap].T
    return matrix.reshape(length * n_in, n_positions * n_out)
