"""Attention and GELU, each by the fastest exact way on the device.

On a GPU MLX's own kernels. On a CPU its exp and erf run element by element on one core and take most of an encoder's
time, while NumPy's exp is vectorised. There the large arrays of an encoder go through NumPy, in blocks that stay in the
cache.
"""

import math

import mlx.core as mx
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_BLOCK = 1 << 16  # numbers: a block and its temporaries fit the second-level cache
_QUERY_BLOCK = 256  # rows of scores at a time: 256 x 1500 numbers


def attention(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None = None) -> mx.array:
    """Scaled dot-product attention of q (B, nh, T, hs) to k, v (B, nh, S, hs); mask as MLX's fused kernel takes it."""
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask=mask)


def encoder_attention(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    """`attention` without a mask, for sequences as long as an encoder's."""
    if not _runs_on_cpu(q):
        return attention(q, k, v)
    return mx.array(_attention_on_host(np.asarray(q), np.asarray(k), np.asarray(v)))


def gelu(x: mx.array) -> mx.array:
    """x * Phi(x), the exact GELU. MLX's own is compiled, and what threads compile aborts a process when it ends."""
    return x * (1 + mx.erf(x * math.sqrt(0.5))) * 0.5


def encoder_gelu(x: mx.array) -> mx.array:
    """`gelu`, to float32's rounding, for arrays as large as an encoder's."""
    if not _runs_on_cpu(x):
        return gelu(x)
    return mx.array(_gelu_on_host(np.asarray(x)))


def _runs_on_cpu(x: mx.array) -> bool:
    return mx.default_device() == mx.cpu and x.dtype == mx.float32


def _attention_on_host(q: Floats, k: Floats, v: Floats) -> Floats:
    out = np.empty(q.shape, np.float32)
    scale = np.float32(q.shape[-1] ** -0.5)
    for index in np.ndindex(q.shape[:2]):
        keys, values = np.ascontiguousarray(k[index].T), np.ascontiguousarray(v[index])
        for start in range(0, q.shape[2], _QUERY_BLOCK):
            block = slice(start, start + _QUERY_BLOCK)
            weights = (q[index][block] * scale) @ keys
            weights -= weights.max(axis=-1, keepdims=True)
            np.exp(weights, out=weights)
            out[index][block] = (weights @ values) / weights.sum(axis=-1, keepdims=True)
    return out


def _gelu_on_host(x: Floats) -> Floats:
    flat, out = x.reshape(-1), np.empty(x.size, np.float32)
    for start in range(0, x.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        out[block] = _gelu(flat[block])
    return out.reshape(x.shape)


# erfc(z) = t * (a1 + t * (a2 + ...)) * exp(-z^2) with t = 1 / (1 + p * z), z >= 0, to 1.5e-7
# (Abramowitz and Stegun 1964, 7.1.26).
_P = 0.3275911
_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def _gelu(x: Floats) -> Floats:
    z = np.abs(x)
    z *= np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(_P) * z)
    tail = np.full_like(t, _A[4])
    for coefficient in _A[3::-1]:
        tail *= t
        tail += np.float32(coefficient)
    tail *= t
    z *= z
    np.negative(z, out=z)
    tail *= np.exp(z, out=z)
    tail *= 0.5  # Phi(-|x|)
    return np.asarray(x * np.where(x < 0, tail, 1 - tail), np.float32)
