"""wav2vec 2.0 and HuBERT with a CTC head in MLX: which label is heard in each 20 ms.

Baevski et al. 2020, https://arxiv.org/abs/2006.11477; Hsu et al. 2021, https://arxiv.org/abs/2106.07447. Convolutions
turn samples into frames, a transformer reads them, a linear layer names the labels. Two families: the base models
normalise the first convolution over time and each transformer layer behind its residual ("group", "post-norm"); large,
XLSR and XLS-R normalise every convolution over channels and each layer before ("layer", "stable layer norm"). Names of
parameters are those of Hugging Face's checkpoints without their first part.

Every recording is computed by itself, in a shape that depends on its own length alone. So an emission has the same bits
whatever else is computed beside it, and nothing of a neighbour or of padding can leak into it: base models have no mask
that could stop it. With recordings of some seconds a pass is large enough to keep a processor busy.
"""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx import nn
from mlx.utils import tree_flatten

from whisperx.audio import SAMPLE_RATE
from whisperx.checkpoints.tensors import Tensor, read_expected
from whisperx.checkpoints.weights import find_weights, open_weights, read_json
from whisperx.errors import CheckpointError
from whisperx.models import ops
from whisperx.models.convolutions import Convolution, features, normalised_over_time
from whisperx.models.devices import find_device
from whisperx.models.host import Floats
from whisperx.models.ops import Array
from whisperx.schema import Audio, Emission

Arrays = Mapping[str, npt.NDArray[Any]]

STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of the published networks, whose weights do not tell them
_CONV_EPSILON = 1e-5  # of the normalisations between convolutions
_AUDIO_EPSILON = 1e-7  # where the waveform itself is normalised

Norm = Literal["group", "layer"]


@dataclass(frozen=True)
class Wav2Vec2Dimensions:
    """What a network looks like."""

    conv_dim: tuple[int, ...]  # channels of each convolution
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    conv_bias: bool
    conv_norm: Norm  # over time and after the first only, or over channels and after each
    n_state: int
    n_layer: int
    n_head: int
    n_intermediate: int
    pos_kernel: int  # frames that the positional convolution looks at
    pos_groups: int
    stable_layer_norm: bool
    feature_norm: bool  # whether what the convolutions give is normalised
    n_labels: int
    epsilon: float = 1e-5

    @property
    def samples_per_frame(self) -> int:
        return math.prod(self.conv_stride)

    @property
    def min_samples(self) -> int:
        """What the first frame is heard from."""
        n_samples = 1
        for kernel, stride in zip(self.conv_kernel[::-1], self.conv_stride[::-1], strict=True):
            n_samples = (n_samples - 1) * stride + kernel
        return n_samples


class _Convolution(nn.Module):
    def __init__(self, n_in: int, dims: Wav2Vec2Dimensions, i: int) -> None:
        super().__init__()
        n_out = dims.conv_dim[i]
        self.conv = nn.Conv1d(n_in, n_out, dims.conv_kernel[i], stride=dims.conv_stride[i], bias=dims.conv_bias)
        self.layer_norm: nn.Module
        if dims.conv_norm == "layer":
            self.layer_norm = nn.LayerNorm(n_out, eps=_CONV_EPSILON)
        elif i == 0:
            self.layer_norm = _NormOverTime(n_out)
        else:
            self.layer_norm = nn.Identity()

    def __call__(self, x: Array) -> Array:
        return ops.gelu(_normalised(self.layer_norm, ops.convolution(self.conv, x)))

    def on_host(self) -> Convolution:
        """With parameters in NumPy, and without the normalisation over time, which needs the whole recording."""
        weight: Floats = np.asarray(self.conv.weight)  # (n_out, kernel, n_in)
        norm = self.layer_norm if isinstance(self.layer_norm, nn.LayerNorm) else None
        bias = getattr(self.conv, "bias", None)
        return Convolution(weight.reshape(len(weight), -1).T, bias, weight.shape[1], self.conv.stride, norm)


def _normalised(norm: nn.Module, x: Array) -> Array:
    return ops.layer_norm(norm, x) if isinstance(norm, nn.LayerNorm) else norm(x)


class _NormOverTime(nn.Module):
    """Each channel of x (1, T, C) by its own mean and variance: group normalisation with a group for each channel."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.weight = mx.ones(n_channels)
        self.bias = mx.zeros(n_channels)

    def __call__(self, x: mx.array) -> mx.array:
        wide = x.astype(mx.float32)
        mean = wide.mean(axis=1, keepdims=True)
        scale = self.weight * mx.rsqrt(wide.var(axis=1, keepdims=True) + _CONV_EPSILON)
        return (wide * scale + (self.bias - mean * scale)).astype(x.dtype)


class _FeatureExtractor(nn.Module):
    def __init__(self, dims: Wav2Vec2Dimensions) -> None:
        super().__init__()
        n_in = (1, *dims.conv_dim)
        self.conv_layers = [_Convolution(n_in[i], dims, i) for i in range(len(dims.conv_dim))]

    def __call__(self, samples: Array) -> Array:
        if ops.is_on_host(samples):
            return features(samples, self._host_convolutions(samples))[None]
        x = samples[None, :, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x

    def _host_convolutions(self, samples: Floats) -> list[Convolution]:
        convolutions = [layer.on_host() for layer in self.conv_layers]
        norm = self.conv_layers[0].layer_norm
        if isinstance(norm, _NormOverTime):
            weight, bias = np.asarray(norm.weight), np.asarray(norm.bias)
            convolutions[0] = normalised_over_time(convolutions[0], weight, bias, _CONV_EPSILON, samples)
        return convolutions


class _FeatureProjection(nn.Module):
    def __init__(self, dims: Wav2Vec2Dimensions) -> None:
        super().__init__()
        n_features = dims.conv_dim[-1]
        self.layer_norm = nn.LayerNorm(n_features, eps=dims.epsilon) if dims.feature_norm else nn.Identity()
        self.projection = nn.Linear(n_features, dims.n_state)

    def __call__(self, x: Array) -> Array:
        return ops.linear(self.projection, _normalised(self.layer_norm, x))


class _PositionalConvolution(nn.Module):
    def __init__(self, dims: Wav2Vec2Dimensions) -> None:
        super().__init__()
        kernel = dims.pos_kernel
        self.conv = nn.Conv1d(dims.n_state, dims.n_state, kernel, padding=kernel // 2, groups=dims.pos_groups)

    def __call__(self, x: Array) -> Array:
        return ops.gelu(ops.convolution(self.conv, x)[:, : x.shape[1]])  # an even kernel gives one frame too many


class _Attention(nn.Module):
    def __init__(self, dims: Wav2Vec2Dimensions) -> None:
        super().__init__()
        self.n_head = dims.n_head
        self.q_proj = nn.Linear(dims.n_state, dims.n_state)
        self.k_proj = nn.Linear(dims.n_state, dims.n_state)
        self.v_proj = nn.Linear(dims.n_state, dims.n_state)
        self.out_proj = nn.Linear(dims.n_state, dims.n_state)

    def __call__(self, x: Array) -> Array:
        q, k, v = (self._heads(ops.linear(layer, x)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        mixed = ops.attention(q, k, v)  # (1, nh, T, hs)
        return ops.linear(self.out_proj, mixed.swapaxes(1, 2).reshape(x.shape))

    def _heads(self, x: Array) -> Array:
        return x.reshape(*x.shape[:2], self.n_head, -1).swapaxes(1, 2)


class _FeedForward(nn.Module):
    def __init__(self, dims: Wav2Vec2Dimensions) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(dims.n_state, dims.n_intermediate)
        self.output_dense = nn.Linear(dims.n_intermediate, dims.n_state)

    def __call__(self, x: Array) -> Array:
        return ops.linear(self.output_dense, ops.gelu(ops.linear(self.intermediate_dense, x)))


class _Layer(nn.Module):
    def __init__(self, dims: Wav2Vec2Dimensions) -> None:
        super().__init__()
        self.is_stable = dims.stable_layer_norm
        self.attention = _Attention(dims)
        self.layer_norm = nn.LayerNorm(dims.n_state, eps=dims.epsilon)
        self.feed_forward = _FeedForward(dims)
        self.final_layer_norm = nn.LayerNorm(dims.n_state, eps=dims.epsilon)

    def __call__(self, x: Array) -> Array:
        if self.is_stable:
            x = x + self.attention(ops.layer_norm(self.layer_norm, x))
            return x + self.feed_forward(ops.layer_norm(self.final_layer_norm, x))
        x = ops.layer_norm(self.layer_norm, x + self.attention(x))
        return ops.layer_norm(self.final_layer_norm, x + self.feed_forward(x))


class _Encoder(nn.Module):
    def __init__(self, dims: Wav2Vec2Dimensions) -> None:
        super().__init__()
        self.is_stable = dims.stable_layer_norm
        self.pos_conv_embed = _PositionalConvolution(dims)
        self.layer_norm = nn.LayerNorm(dims.n_state, eps=dims.epsilon)
        self.layers = [_Layer(dims) for _ in range(dims.n_layer)]

    def __call__(self, x: Array) -> Array:
        x = x + self.pos_conv_embed(x)
        if not self.is_stable:
            x = ops.layer_norm(self.layer_norm, x)
        for layer in self.layers:
            x = layer(x)
        return ops.layer_norm(self.layer_norm, x) if self.is_stable else x


class Wav2Vec2(nn.Module):
    """The network. Parameters are random until `load_weights`."""

    def __init__(self, dims: Wav2Vec2Dimensions) -> None:
        super().__init__()
        self.feature_extractor = _FeatureExtractor(dims)
        self.feature_projection = _FeatureProjection(dims)
        self.encoder = _Encoder(dims)
        self.lm_head = nn.Linear(dims.n_state, dims.n_labels)

    def __call__(self, samples: Array) -> Array:
        """Logits (n_frames, n_labels) of samples (n_samples,), at least `min_samples`."""
        features = self.feature_projection(self.feature_extractor(samples))  # (1, T, n_state)
        return ops.linear(self.lm_head, self.encoder(features))[0]


class Wav2Vec2Aligner:
    """A network with what is to be done to the audio before: an `AlignModel`.

    normalise : whether audio is brought to mean 0 and variance 1, as the network was trained; normalise_compat : the
        same with `compat`
    """

    def __init__(
        self,
        arrays: Arrays,
        dims: Wav2Vec2Dimensions,
        *,
        device: mx.Device,
        normalise: bool = False,
        normalise_compat: bool = False,
    ) -> None:
        self.dims = dims
        self._normalise = {False: normalise, True: normalise_compat}
        self._dtype = mx.float32 if device == mx.cpu else mx.float16
        self._lock = threading.Lock()
        # A stream for whichever thread holds the lock; MLX's own streams belong to one thread each.
        self._stream = mx.new_thread_unsafe_stream(device)
        with mx.stream(self._stream):
            self._network = build_wav2vec2(arrays, dims, self._dtype)
        if device == mx.cpu:
            ops.to_host(self._network)

    @property
    def frame_seconds(self) -> float:
        return self.dims.samples_per_frame / SAMPLE_RATE

    def emissions(self, audio: Sequence[Audio], batch_size: int, *, compat: bool = False) -> list[Emission]:
        """As `AlignModel.emissions`. A recording shorter than a frame, 400 samples in all published networks, is filled
        up with silence, as WhisperX does.

        `batch_size` recordings are handed to a GPU at a time, one pass each; it never changes a bit.
        """
        results: list[Emission] = []
        for start in range(0, len(audio), batch_size):
            with self._lock, mx.stream(self._stream):
                launched = [self._log_probabilities(samples, compat) for samples in audio[start : start + batch_size]]
                if not self._is_on_host:
                    mx.eval(launched)
                results += [np.array(emission) for emission in launched]
        return results

    @property
    def _is_on_host(self) -> bool:
        return ops.is_on_host(self._network.lm_head.weight)

    def _log_probabilities(self, samples: Audio, compat: bool) -> Array:
        samples = np.nan_to_num(np.asarray(samples, np.float32), posinf=0, neginf=0)
        if self._normalise[compat]:
            samples = (samples - samples.mean()) / np.sqrt(samples.var() + np.float32(_AUDIO_EPSILON))
        samples = np.pad(samples, (0, max(0, self.dims.min_samples - len(samples))))
        samples = samples.astype(np.float32)
        if self._is_on_host:
            logits = self._network(samples)
        else:
            logits = self._network(mx.array(samples).astype(self._dtype)).astype(mx.float32)
        return logits - ops.logsumexp(logits)[:, None]


def load_wav2vec2(
    path: Path, *, device: str = "auto", torchaudio_labels: str | None = None, normalise_compat: bool = False
) -> tuple[Wav2Vec2Aligner, dict[str, int]]:
    """The network in a model folder, or in one weights file, and its labels: label -> column of an emission.

    path : a folder with config.json, vocab.json, weights (safetensors or pytorch_model.bin) and perhaps
        preprocessor_config.json, as on the Hugging Face Hub; or a weights file beside such files
    device : as `find_device` takes it
    torchaudio_labels : of a model that torchaudio ships too, the labels that it has there behind the blank, "-". Its
        other columns (special tokens, the digit 1) are left out; there need be no vocab.json
    normalise_compat : whether audio is normalised with `compat`, too

    Raises ModelNotFoundError when there is no such path, CheckpointError when the files are broken, incomplete, or of
    another architecture, and what `find_device` raises.
    """
    weights_file = find_weights(path)
    folder = weights_file.parent
    settings = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    _check_supported(folder, settings)
    try:
        tensors = _named_tensors(weights_file)
        dims = dimensions(tensors, settings, weights_file)
        arrays: Arrays = read_expected(weights_file, tensors, expected_shapes(dims))
        if torchaudio_labels is None:
            labels = _labels(folder, dims.n_labels)
        else:
            arrays, labels = _as_torchaudio(arrays, torchaudio_labels, weights_file)
            dims = replace(dims, n_labels=len(labels))
    except CheckpointError:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:  # sizes that are no sizes, or do not fit
        raise CheckpointError(
            f"{weights_file} and the config.json beside it describe no wav2vec2 or HuBERT network: {error}"
        ) from error
    preprocessor = folder / "preprocessor_config.json"
    normalise = bool(read_json(preprocessor).get("do_normalize", True)) if preprocessor.is_file() else normalise_compat
    aligner = Wav2Vec2Aligner(
        arrays, dims, device=find_device(device), normalise=normalise, normalise_compat=normalise_compat
    )
    return aligner, labels


def dimensions(tensors: Mapping[str, Tensor], settings: Mapping[str, Any], source: Path) -> Wav2Vec2Dimensions:
    """Sizes from the shapes of the weights; what these do not tell from config.json, or as in published networks."""

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            raise CheckpointError(
                f"{source} lacks {name}; expected a wav2vec2 or HuBERT network fine-tuned with CTC, "
                "not a pre-trained one"
            )
        return tensors[name].shape

    n_convs = _count(tensors, "feature_extractor.conv_layers.{}.conv.weight")
    convolutions = [shape(f"feature_extractor.conv_layers.{i}.conv.weight") for i in range(n_convs)]
    strides = tuple(settings.get("conv_stride", STRIDES))
    if len(strides) != n_convs:
        raise CheckpointError(f"{source}: {n_convs} convolutions but {len(strides)} strides; config.json should say")
    conv_norm: Norm = "layer" if "feature_extractor.conv_layers.1.layer_norm.weight" in tensors else "group"
    n_state, group_width, pos_kernel = shape("encoder.pos_conv_embed.conv.weight")
    n_head = settings.get("num_attention_heads", 16 if n_state >= 1024 else max(n_state // 64, 1))
    if n_head < 1 or n_state % n_head:
        raise CheckpointError(f"{source}: {n_head} attention heads do not divide {n_state} channels")
    return Wav2Vec2Dimensions(
        conv_dim=tuple(size[0] for size in convolutions),
        conv_kernel=tuple(size[2] for size in convolutions),
        conv_stride=strides,
        conv_bias="feature_extractor.conv_layers.0.conv.bias" in tensors,
        conv_norm=conv_norm,
        n_state=n_state,
        n_layer=_count(tensors, "encoder.layers.{}.layer_norm.weight"),
        n_head=n_head,
        n_intermediate=shape("encoder.layers.0.feed_forward.intermediate_dense.weight")[0],
        pos_kernel=pos_kernel,
        pos_groups=n_state // group_width,
        stable_layer_norm=settings.get("do_stable_layer_norm", conv_norm == "layer"),
        feature_norm="feature_projection.layer_norm.weight" in tensors,
        n_labels=shape("lm_head.weight")[0],
        epsilon=settings.get("layer_norm_eps", 1e-5),
    )


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return next(i for i in range(len(tensors) + 1) if pattern.format(i) not in tensors)


# What the settings may say of networks that are computed as above. Each but the first three changes the computation.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "model_type": ("wav2vec2", "hubert"),
    "feat_extract_activation": ("gelu",),
    "hidden_act": ("gelu",),
    "add_adapter": (False,),
    "adapter_attn_dim": (None,),
    "conv_pos_batch_norm": (False,),
}


def _check_supported(folder: Path, settings: Mapping[str, Any]) -> None:
    for name, supported in _SUPPORTED.items():
        value = settings.get(name, supported[0])
        if value not in supported:
            expected = " or ".join(map(str, supported))
            raise CheckpointError(
                f"{folder / 'config.json'}: {name} is {value!r}, expected {expected}; "
                "choose a wav2vec2 or HuBERT model fine-tuned with CTC"
            )


# ---- names ----

_PREFIXES = ("wav2vec2.", "hubert.", "model.")
_TORCHAUDIO_NAMES = (
    ("encoder.feature_projection.", "feature_projection."),
    ("encoder.transformer.", "encoder."),
    ("aux.", "lm_head."),
)
_POSITIONS = "encoder.pos_conv_embed.conv."


def _named_tensors(weights_file: Path) -> dict[str, Tensor]:
    """All tensors under our names, weight normalisation worked out where they are read."""
    tensors = {_our_name(name): tensor for name, tensor in open_weights(weights_file).tensors.items()}
    for magnitude, direction in (("weight_g", "weight_v"), _PARAMETRISED):
        if _POSITIONS + magnitude in tensors and _POSITIONS + direction in tensors:
            g, v = (tensors.pop(_POSITIONS + name) for name in (magnitude, direction))
            tensors[_POSITIONS + "weight"] = _scaled_directions(weights_file, g, v)
    return tensors


def _scaled_directions(source: Path, magnitude: Tensor, direction: Tensor) -> Tensor:
    """Weight normalisation (https://arxiv.org/abs/1602.07868): a magnitude for each place of the kernel."""
    expected = (1, 1, *direction.shape[2:])
    if magnitude.shape != expected:
        raise CheckpointError(
            f"{source}: the magnitudes of {_POSITIONS}weight have shape {magnitude.shape}, expected {expected}"
        )

    def read() -> npt.NDArray[Any]:
        g, v = (tensor.read().astype(np.float32) for tensor in (magnitude, direction))
        return np.asarray(v * (g / np.sqrt(np.square(v).sum(axis=(0, 1), keepdims=True))))

    return Tensor(direction.shape, "<f4", read)


_PARAMETRISED = ("parametrizations.weight.original0", "parametrizations.weight.original1")  # PyTorch 2's names of both


def _our_name(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    for theirs, ours in _TORCHAUDIO_NAMES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def expected_shapes(dims: Wav2Vec2Dimensions) -> dict[str, tuple[int, ...]]:
    """The shape of each weight by our names, in PyTorch's layout: convolutions are [O, I, K]."""
    return {name: _torch_layout(array.shape) for name, array in _parameters(Wav2Vec2(dims)).items()}


def _torch_layout(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[2], shape[1]) if len(shape) == 3 else shape


def build_wav2vec2(arrays: Arrays, dims: Wav2Vec2Dimensions, dtype: mx.Dtype) -> Wav2Vec2:
    """The network in MLX. Arrays are in PyTorch's layout, by names without their first part."""
    network = Wav2Vec2(dims)

    def parameter(array: npt.NDArray[Any]) -> mx.array:
        if array.ndim == 3:
            array = array.transpose(0, 2, 1)  # [O, I, K] -> [O, K, I]
        return mx.array(np.ascontiguousarray(array, np.float32)).astype(dtype)

    network.load_weights([(name, parameter(arrays[name])) for name in _parameters(network)])
    mx.eval(network.parameters())
    return network


def _parameters(network: Wav2Vec2) -> dict[str, mx.array]:
    return dict(tree_flatten(network.parameters()))


# ---- labels ----


def _labels(folder: Path, n_labels: int) -> dict[str, int]:
    path = folder / "vocab.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} lacks vocab.json, which says what the network's {n_labels} labels are")
    added = folder / "added_tokens.json"
    labels = {**read_json(path), **(read_json(added) if added.is_file() else {})}
    if not all(type(column) is int for column in labels.values()):
        raise CheckpointError(f"{path}: expected one object of labels and their numbers")
    return {label: column for label, column in labels.items() if 0 <= column < n_labels}


_N_SPECIAL = 4  # fairseq's dictionaries begin with the blank and three tokens that are never heard


def _as_torchaudio(arrays: Arrays, characters: str, source: Path) -> tuple[Arrays, dict[str, int]]:
    """Only the columns of the blank and the characters, which all these models have in the same order."""
    n_columns = len(arrays["lm_head.weight"])
    if n_columns < _N_SPECIAL + len(characters):
        raise CheckpointError(f"{source} has {n_columns} labels, expected {_N_SPECIAL + len(characters)} or one more")
    columns = [0, *range(_N_SPECIAL, _N_SPECIAL + len(characters))]
    head = {name: arrays[name][columns] for name in ("lm_head.weight", "lm_head.bias")}
    return {**arrays, **head}, {label: i for i, label in enumerate(["-", *characters])}
