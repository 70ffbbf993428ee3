"""The operations of a network, on whatever holds its numbers.

On a GPU that is MLX. On a CPU it is NumPy with `models.host`: MLX computes there on one core, element by element, all
but matrix products, so a network for a CPU has its weights in float32 NumPy arrays (`to_host`). Large operations are
cut in pieces that the cores share, each computed by one core in one order. How they are cut follows from the shape of
one row's work alone: neither the number of cores nor a row's neighbours can change a bit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx import nn

from whisperx.models.host import Floats, host_math

Array: TypeAlias = Any  # mx.array, or float32 NumPy array; never both in one network

_BLOCK = 1 << 15  # numbers of an element-wise operation at a time: they fit the second-level cache
_ROW_BLOCK = 384  # rows of a long sequence in one product
_WEIGHT_BLOCK = 2 << 20  # bytes of weights in one product of few rows
_SCORES = 1 << 18  # numbers: rows of scores at a time fit the cache, too
_FEW_QUERIES = 128  # up to which a row's heads are products of one batch
_HEARD = 1 << 20  # numbers that a convolution hears in one product
_NORM_BLOCK = 128  # rows that are normalised at a time
_PIECES = 4  # at least, into which the work on a long sequence is cut for the cores
_LARGE_PAST = 1 << 20  # bytes of keys that two cores may share


def to_host(network: nn.Module) -> None:
    """Let a network compute on the CPU in NumPy: turn its parameters into float32 arrays, without copying them."""
    for _, module in network.named_modules():
        for name, value in list(module.items()):
            if isinstance(value, mx.array):
                setattr(module, name, np.asarray(value.astype(mx.float32)))


@dataclass(frozen=True)
class Tiles:
    """The weights of a linear layer, laid out for products with tiles of so many rows."""

    n_rows: int
    n_out: int
    parts: Sequence[tuple[slice, Any]]  # columns of what comes out, which one core computes, and weights


def lay_out_for_tiles(layer: nn.Module, n_rows: int) -> None:
    """Let `linear` multiply a layer on the host with tiles of `n_rows` rows, and in no other way from now on: its
    `weight` is gone."""
    host, weight = host_math(), layer.weight
    n_out = len(weight)
    width = -(-n_out // -(-weight.nbytes // _WEIGHT_BLOCK))
    columns = [slice(i, min(i + width, n_out)) for i in range(0, n_out, width)]
    layer.tiles = Tiles(n_rows, n_out, [(wide, host.laid_out(weight[wide].T, n_rows)) for wide in columns])
    del layer.weight


def is_on_host(x: Array) -> bool:
    return isinstance(x, np.ndarray)


def like(parameter: Array, x: Any) -> Array:
    """x, any array or numbers, where the parameter is."""
    if is_on_host(parameter):
        return np.asarray(x)
    return x if isinstance(x, mx.array) else mx.array(x)


def library(x: Array) -> Any:
    """Where to find `concatenate`, `stack` and the like for an array."""
    return np if is_on_host(x) else mx


def linear(layer: nn.Module, x: Array, rows_per_tile: int | None = None) -> Array:
    """x (..., n_in) through a linear layer, or against all tokens of an embedding: (..., n_out).

    rows_per_tile : the rows of x are those of a running batch, and go in tiles of exactly so many, filled up with rows
        that nobody reads (on the host after `lay_out_for_tiles`); None: they are a sequence, always of the same length
    """
    if is_on_host(x):
        bias = getattr(layer, "bias", None)
        if rows_per_tile is None:
            return _linear_on_host(layer.weight, bias, x)
        return _linear_in_tiles(layer.tiles, bias, x)
    apply: Any = getattr(layer, "as_linear", layer)
    return apply(x) if rows_per_tile is None else tiled(apply, x, rows_per_tile)


def tiled(layer: Callable[[mx.array], mx.array], x: mx.array, rows_per_tile: int) -> mx.array:
    """`layer` on the rows of x (..., n_in), never on more or fewer than `rows_per_tile` at a time."""
    rows = x.reshape(-1, x.shape[-1])
    n_rows = len(rows)
    if n_rows % rows_per_tile:
        rows = mx.pad(rows, [(0, -n_rows % rows_per_tile), (0, 0)])
    tiles = [layer(rows[i : i + rows_per_tile]) for i in range(0, len(rows), rows_per_tile)]
    y = tiles[0] if len(tiles) == 1 else mx.concatenate(tiles)
    return y[:n_rows].reshape(*x.shape[:-1], -1)


def embedding(layer: nn.Module, tokens: Array) -> Array:
    """Tokens (...) -> (..., n_state)."""
    if is_on_host(layer.weight):
        return layer.weight[np.asarray(tokens)].astype(np.float32, copy=False)
    return layer(tokens)


def convolution(layer: nn.Conv1d, x: Array) -> Array:
    """x (1, T, n_in), zeros on both sides -> (1, T', n_out)."""
    if not is_on_host(x):
        return layer(x)
    weight: Floats = np.asarray(layer.weight)
    host, (n_out, size, n_in), bias = host_math(), weight.shape, getattr(layer, "bias", None)
    padded = np.pad(x[0], [(layer.padding, layer.padding), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=0)[:: layer.stride]  # (T', n_channels, size)
    out = np.empty((len(windows), n_out), np.float32)
    height = min(_ROW_BLOCK, max(_HEARD // (size * n_in), 1))

    def convolve(piece: tuple[int, int]) -> None:
        start, group = piece
        rows, n_each = slice(start, start + height), n_out // layer.groups
        # Copied, for rows that overlap in memory are no matrix.
        heard = np.ascontiguousarray(windows[rows, group * n_in : (group + 1) * n_in].swapaxes(1, 2))
        outputs = slice(group * n_each, (group + 1) * n_each)
        y = out[rows, outputs]
        host.multiply(heard.reshape(-1, size * n_in), weight[outputs].reshape(n_each, size * n_in).T, y)
        if bias is not None:
            y += bias[outputs]

    host.for_each(convolve, [(i, g) for i in range(0, len(windows), height) for g in range(layer.groups)])
    return out[None]


def layer_norm(layer: nn.LayerNorm, x: Array) -> Array:
    if not is_on_host(x):
        return layer(x)
    host, rows = host_math(), x.reshape(-1, x.shape[-1])
    out = np.empty(rows.shape, np.float32)

    def normalise(start: int) -> None:
        block = slice(start, start + _NORM_BLOCK)
        out[block] = rows[block]
        normalise_in_place(layer, out[block])

    host.for_each(normalise, range(0, len(rows), _NORM_BLOCK))
    return out.reshape(x.shape)


def normalise_in_place(layer: nn.LayerNorm, x: Floats) -> None:
    """`layer_norm` of x (m, n) on one core."""
    x -= x.mean(axis=-1, keepdims=True)
    variance = np.einsum("ij,ij->i", x, x)[:, None] / np.float32(x.shape[-1])
    x /= np.sqrt(variance + np.float32(layer.eps))
    x *= layer.weight
    x += layer.bias


def gelu(x: Array) -> Array:
    """x * Phi(x), the exact GELU; on the host in x's own memory, if that is contiguous.

    MLX's own is compiled, and what threads compile aborts a process when it ends.
    """
    return _gelu_on_host(x) if is_on_host(x) else x * (1 + mx.erf(x * math.sqrt(0.5))) * 0.5


def attention(q: Array, k: Array, v: Array) -> Array:
    """Scaled dot-product attention of q (B, nh, T, hs) to all of k, v (B, nh, S, hs)."""
    if not is_on_host(q):
        return masked_attention(q, k, v, None)
    if q.shape[2] > _FEW_QUERIES:
        return _long_attention_on_host(q, k, v)
    return past_attention(q, k, v, [k.shape[2]] * len(q), None)


def causal_attention(q: Array, k: Array, v: Array) -> Array:
    """`attention` of each of T tokens (1, nh, T, hs) to itself and those before it."""
    if not is_on_host(q):
        return masked_attention(q, k, v, "causal")
    length = q.shape[2]
    return past_attention(q, k, v, [length], np.tri(length, dtype=np.bool_)[None])


def masked_attention(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None) -> mx.array:
    """`attention` in MLX, the mask as its fused kernel takes it."""
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask=mask)


def logsumexp(x: Array) -> Array:
    """Logarithm of the sum of exp(x) over the last axis."""
    if not is_on_host(x):
        return mx.logsumexp(x, axis=-1)
    top = x.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(top), top, np.float32(0))
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x - shift).sum(axis=-1)) + shift[..., 0]


# ---- on the host ----


def _linear_on_host(weight: Floats, bias: Floats | None, x: Floats) -> Floats:
    """A long sequence is cut along its rows."""
    host, (n_out, n_in) = host_math(), weight.shape
    rows = np.ascontiguousarray(x).reshape(-1, n_in)
    n_rows = len(rows)
    n_blocks = -(-n_rows // _ROW_BLOCK)
    height, width = -(-n_rows // n_blocks), -(-n_out // -(-_PIECES // n_blocks))
    out = np.empty((n_rows, n_out), np.float32)

    def multiply(piece: tuple[slice, slice]) -> None:
        tall, wide = piece
        y = out[tall, wide]
        host.multiply(rows[tall], weight[wide].T, y)
        if bias is not None:
            y += bias[wide]

    columns = [slice(i, min(i + width, n_out)) for i in range(0, n_out, width)]
    host.for_each(
        multiply, [(slice(i, min(i + height, n_rows)), wide) for i in range(0, n_rows, height) for wide in columns]
    )
    return out.reshape(*x.shape[:-1], n_out)


def _linear_in_tiles(tiles: Tiles, bias: Floats | None, x: Floats) -> Floats:
    """All rows go through a part of the weights, which stays near, before the next part."""
    host, n_in = host_math(), x.shape[-1]
    n_rows = x.size // n_in
    rows = np.zeros((n_rows + -n_rows % tiles.n_rows, n_in), np.float32)
    rows[:n_rows] = x.reshape(-1, n_in)
    out = np.empty((len(rows), tiles.n_out), np.float32)

    def multiply(part: tuple[slice, Any]) -> None:
        wide, weights = part
        for start in range(0, len(rows), tiles.n_rows):
            tile = slice(start, start + tiles.n_rows)
            y = out[tile, wide]
            host.multiply_laid_out(rows[tile], weights, y)
            if bias is not None:
                y += bias[wide]

    host.for_each(multiply, tiles.parts)
    return out[:n_rows].reshape(*x.shape[:-1], tiles.n_out)


def _merged_like(q: Floats) -> Floats:
    """An array for q's shape (B, nh, T, hs) that lies as (B, T, nh, hs): heads are merged without copying."""
    batch, n_head, length, head_dim = q.shape
    return np.empty((batch, length, n_head, head_dim), np.float32).swapaxes(1, 2)


def _long_attention_on_host(q: Floats, k: Floats, v: Floats) -> Floats:
    host, out = host_math(), _merged_like(q)
    scale, n_rows = np.float32(q.shape[-1] ** -0.5), max(_SCORES // k.shape[2], 1)

    def attend(index: tuple[int, ...]) -> None:
        queries, keys, values, mixed = q[index] * scale, k[index], v[index], out[index]  # each (T or S, hs)
        scores = np.empty((min(n_rows, len(queries)), len(keys)), np.float32)
        for start in range(0, len(queries), n_rows):
            block = slice(start, start + n_rows)
            weights = scores[: len(queries[block])]
            host.multiply(queries[block], keys.T, weights)
            weights -= weights.max(axis=-1, keepdims=True)
            host.exp(weights)
            host.multiply(weights, values, mixed[block])
            mixed[block] /= weights.sum(axis=-1, keepdims=True)

    host.for_each(attend, list(np.ndindex(q.shape[:2])))
    return out


def past_attention(
    q: Floats, k: Floats, v: Floats, lengths: Sequence[int], seen: npt.NDArray[np.bool_] | None
) -> Floats:
    """`attention` of few queries q (n, nh, T, hs): row i to its first `lengths[i]` keys, those of them that it sees.

    The products of a row are its own; half of its heads at a time where there is much to read.

    seen : (n, T, S), None: all
    """
    host, out, n_head = host_math(), _merged_like(q), q.shape[1]
    scale = np.float32(q.shape[-1] ** -0.5)

    def attend(piece: tuple[int, slice]) -> None:
        row, heads = piece
        length = lengths[row]
        queries = q[row, heads] * scale  # (nh, T, hs)
        weights = np.empty((*queries.shape[:2], length), np.float32)
        host.multiply_stacks(queries, k[row, heads, :length].swapaxes(1, 2), weights)
        if seen is not None:
            np.copyto(weights, -np.inf, where=~seen[row, :, :length])
        weights -= weights.max(axis=-1, keepdims=True)
        host.exp(weights)
        mixed = np.empty(queries.shape, np.float32)
        host.multiply_stacks(weights, v[row, heads, :length], mixed)
        np.divide(mixed, weights.sum(axis=-1, keepdims=True), out=out[row, heads])

    pieces = []
    for row, length in enumerate(lengths):
        n_parts = 2 if n_head > 1 and length * n_head * q.shape[-1] * q.itemsize > _LARGE_PAST else 1
        borders = [n_head * part // n_parts for part in range(n_parts + 1)]
        pieces += [(row, slice(borders[part], borders[part + 1])) for part in range(n_parts)]
    host.for_each(attend, pieces)
    return out


def _gelu_on_host(x: Floats) -> Floats:
    x = np.ascontiguousarray(x)
    blocks = x.reshape(1, -1)
    host_math().for_each(lambda start: gelu_in_place(blocks[:, start : start + _BLOCK]), range(0, x.size, _BLOCK))
    return x


def gelu_in_place(x: Floats) -> None:
    """`gelu` of x (m, n) on one core."""
    host, n_rows = host_math(), max(_BLOCK // x.shape[1], 1)
    phi = np.empty((min(n_rows, len(x)), x.shape[1]), np.float32)
    for start in range(0, len(x), n_rows):
        block = x[start : start + n_rows]
        phi = phi[: len(block)]
        np.multiply(block, np.float32(math.sqrt(0.5)), out=phi)
        host.erf(phi)
        phi += 1
        phi *= 0.5
        block *= phi
