"""Attention and GELU, each by the fastest exact way on the device.

On a GPU MLX's own kernels. On a CPU its exp and erf run element by element on one core and take most of an encoder's
time. There the large arrays of an encoder are computed on the host, in blocks that stay in the cache.
"""

import math

import mlx.core as mx
import numpy as np

from whisperx.models.host import Floats, host_math

_BLOCK = 1 << 15  # numbers: a block fits the second-level cache
_QUERY_BLOCK = 128  # rows of scores at a time: 128 x 1500 numbers, likewise


def attention(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None = None) -> mx.array:
    """Scaled dot-product attention of q (B, nh, T, hs) to k, v (B, nh, S, hs); mask as MLX's fused kernel takes it."""
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask=mask)


def encoder_attention(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    """`attention` without a mask, for sequences as long as an encoder's."""
    if not _runs_on_cpu(q):
        return attention(q, k, v)
    return mx.array(_attention_on_host(np.asarray(q), np.asarray(k), np.asarray(v)))


def cross_attention(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    """`attention` without a mask, of few queries each to many keys: a chunk gets the same bits with any others."""
    if not _runs_on_cpu(q):
        return attention(q, k, v)
    return mx.array(_cross_attention_on_host(np.asarray(q), np.asarray(k), np.asarray(v)))


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
    host, out = host_math(), np.empty(q.shape, np.float32)
    scale = np.float32(q.shape[-1] ** -0.5)

    def attend(index: tuple[int, ...]) -> None:
        queries, keys, values, mixed = q[index] * scale, k[index], v[index], out[index]  # each (T or S, hs)
        scores = np.empty((min(_QUERY_BLOCK, len(queries)), len(keys)), np.float32)
        for start in range(0, len(queries), _QUERY_BLOCK):
            block = slice(start, start + _QUERY_BLOCK)
            weights = scores[: len(queries[block])]
            host.multiply(queries[block], keys.T, weights)
            weights -= weights.max(axis=-1, keepdims=True)
            host.exp(weights)
            host.multiply(weights, values, mixed[block])
            mixed[block] /= weights.sum(axis=-1, keepdims=True)

    host.for_each(attend, np.ndindex(q.shape[:2]))
    return out


def _cross_attention_on_host(q: Floats, k: Floats, v: Floats) -> Floats:
    host, out = host_math(), np.empty(q.shape, np.float32)
    scale = np.float32(q.shape[-1] ** -0.5)

    def attend(chunk: int) -> None:
        weights = np.empty((*q.shape[1:3], k.shape[2]), np.float32)  # (nh, T, S)
        host.multiply_stacks(q[chunk] * scale, k[chunk].swapaxes(1, 2), weights)
        weights -= weights.max(axis=-1, keepdims=True)
        host.exp(weights)
        host.multiply_stacks(weights, v[chunk], out[chunk])
        out[chunk] /= weights.sum(axis=-1, keepdims=True)

    host.for_each(attend, range(len(q)))
    return out


def _gelu_on_host(x: Floats) -> Floats:
    host, flat, out = host_math(), x.reshape(-1), np.empty(x.size, np.float32)

    def block_gelu(start: int) -> None:
        block = slice(start, start + _BLOCK)
        y = np.multiply(flat[block], np.float32(math.sqrt(0.5)), out=out[block])
        host.erf(y)
        y += 1
        y *= flat[block]
        y *= 0.5

    host.for_each(block_gelu, range(0, x.size, _BLOCK))
    return out.reshape(x.shape)
