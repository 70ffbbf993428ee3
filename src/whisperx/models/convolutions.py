"""A stack of convolutions over samples on a CPU: a stretch of sound at a time goes through all in a core's cache.

Array after array through memory takes twice as long. Stretches depend on the number of samples alone, so results have
the same bits with any number of threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from whisperx.models.host import Floats, host_math
from whisperx.models.ops import gelu_in_place, normalise_in_place

_FRAMES = 32  # of the last convolution in a stretch: 4 MB behind the first one of wav2vec 2.0


@dataclass(frozen=True, slots=True)
class Convolution:
    """Without padding, and a GELU behind it."""

    weight: Floats  # (kernel * n_in, n_out)
    bias: Floats | None
    kernel: int
    stride: int
    norm: Any  # nn.LayerNorm over the channels with its weights in NumPy, or None


def features(samples: Floats, convolutions: Sequence[Convolution]) -> Floats:
    """(n_frames, n_channels) of samples (n_samples,), as many as the first frame is heard from or more."""
    host, n_frames = host_math(), len(samples)
    for convolution in convolutions:
        n_frames = (n_frames - convolution.kernel) // convolution.stride + 1
    found = np.empty((n_frames, convolutions[-1].weight.shape[1]), np.float32)

    def hear(start: int) -> None:
        frames = slice(start, min(start + _FRAMES, n_frames))
        first, stop = frames.start, frames.stop
        for convolution in reversed(convolutions):  # what they are heard from
            first, stop = first * convolution.stride, (stop - 1) * convolution.stride + convolution.kernel
        x = samples[first:stop, None]
        for convolution in convolutions:
            heard = np.ascontiguousarray(_windows(x, convolution))
            x = np.empty((len(heard), convolution.weight.shape[1]), np.float32)
            host.multiply(heard, convolution.weight, x)
            if convolution.bias is not None:
                x += convolution.bias
            if convolution.norm is not None:
                normalise_in_place(convolution.norm, x)
            gelu_in_place(x)
        found[frames] = x

    host.for_each(hear, range(0, n_frames, _FRAMES))
    return found


def normalised_over_time(
    convolution: Convolution, weight: Floats, bias: Floats, epsilon: float, samples: Floats
) -> Convolution:
    """The convolution of samples (n_samples,) with each channel of what it gives brought to mean 0 and variance 1, then
    scaled and shifted.

    Both follow from mean and covariance of the few samples that it hears at a time, here in float64; its own bias does
    not matter.
    """
    heard = _windows(samples[:, None], convolution).astype(np.float64)
    mean = heard.mean(axis=0)
    heard -= mean
    covariance = heard.T @ heard / len(heard)
    own = convolution.weight.astype(np.float64)
    variance = np.einsum("ko,kl,lo->o", own, covariance, own)
    scale = weight / np.sqrt(np.maximum(variance, 0) + epsilon)
    return replace(
        convolution,
        weight=(own * scale).astype(np.float32),
        bias=(bias - mean @ own * scale).astype(np.float32),
    )


def _windows(x: Floats, convolution: Convolution) -> Floats:
    """What is heard at a time of x (T, n_in), which is contiguous: a view (T', kernel * n_in)."""
    n_in = x.shape[1]
    return sliding_window_view(x.reshape(-1), convolution.kernel * n_in)[:: convolution.stride * n_in]
