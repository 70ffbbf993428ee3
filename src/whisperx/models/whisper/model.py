"""Whisper's network: audio encoder, text decoder, and the key-value caches of a running batch.

Radford et al. 2022, https://arxiv.org/abs/2212.04356. Every size and family follows from its dimensions alone. Names of
parameters are OpenAI's, with `mlp1`, `mlp2` for the two linear layers of a block; convolution weights are [O, K, I].

Batch invariance. A row of the running batch must not see how many neighbours it has. Attention, normalisation and
element-wise work treat each row by itself, but matrix products do not: a BLAS or GPU library chooses another kernel,
with another order of summation, for another number of rows. So every linear layer of the decoder runs on tiles of
exactly `rows_per_tile` rows, filled up with rows that nobody reads, and every other shape (encoder, prompt, the part of
the cache that a row attends to) depends on that row alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx import nn

from whisperx.checkpoints import WhisperDimensions, sinusoids
from whisperx.checkpoints.alignment_heads import Heads
from whisperx.models import ops
from whisperx.models.ops import Array

KeyValue = tuple[Array, Array]  # each (n, n_head, n_ctx, head_dim)

AttendOwn = Callable[[Array, Array, Array], Array]  # self-attention of q, k, v, each (B, nh, T, hs)
Attend = Callable[[Array], Array]  # attention to the sound of q (B, nh, T, hs)


class MultiHeadAttention(nn.Module):
    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.query = nn.Linear(n_state, n_state)
        self.key = nn.Linear(n_state, n_state, bias=False)
        self.value = nn.Linear(n_state, n_state)
        self.out = nn.Linear(n_state, n_state)

    def split_heads(self, x: Array) -> Array:
        batch, length, n_state = x.shape
        return x.reshape(batch, length, self.n_head, n_state // self.n_head).swapaxes(1, 2)  # (B, nh, T, hs)


def merge_heads(x: Array) -> Array:
    batch, n_head, length, head_dim = x.shape
    return x.swapaxes(1, 2).reshape(batch, length, n_head * head_dim)


class EncoderBlock(nn.Module):
    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.attn = MultiHeadAttention(n_state, n_head)
        self.attn_ln = nn.LayerNorm(n_state)
        self.mlp1 = nn.Linear(n_state, 4 * n_state)
        self.mlp2 = nn.Linear(4 * n_state, n_state)
        self.mlp_ln = nn.LayerNorm(n_state)

    def __call__(self, x: Array) -> Array:
        y, attn = ops.layer_norm(self.attn_ln, x), self.attn
        q, k, v = (attn.split_heads(ops.linear(layer, y)) for layer in (attn.query, attn.key, attn.value))
        x = x + ops.linear(attn.out, merge_heads(ops.attention(q, k, v)))
        y = ops.gelu(ops.linear(self.mlp1, ops.layer_norm(self.mlp_ln, x)))
        return x + ops.linear(self.mlp2, y)


class AudioEncoder(nn.Module):
    def __init__(self, dims: WhisperDimensions) -> None:
        super().__init__()
        n_state = dims.n_audio_state
        self.conv1 = nn.Conv1d(dims.n_mels, n_state, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(n_state, n_state, kernel_size=3, stride=2, padding=1)
        self.positional_embedding = mx.array(sinusoids(dims.n_audio_ctx, n_state))
        self.blocks = [EncoderBlock(n_state, dims.n_audio_head) for _ in range(dims.n_audio_layer)]
        self.ln_post = nn.LayerNorm(n_state)

    def __call__(self, mel: Array) -> Array:
        """Features (1, n_audio_ctx, n_audio_state) of one mel spectrogram (2 * n_audio_ctx, n_mels)."""
        x = ops.like(self.positional_embedding, mel)[None]
        x = ops.gelu(ops.convolution(self.conv1, x))
        x = ops.gelu(ops.convolution(self.conv2, x)) + self.positional_embedding
        for block in self.blocks:
            x = block(x)
        return ops.layer_norm(self.ln_post, x)


class DecoderBlock(nn.Module):
    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.attn = MultiHeadAttention(n_state, n_head)
        self.attn_ln = nn.LayerNorm(n_state)
        self.cross_attn = MultiHeadAttention(n_state, n_head)
        self.cross_attn_ln = nn.LayerNorm(n_state)
        self.mlp1 = nn.Linear(n_state, 4 * n_state)
        self.mlp2 = nn.Linear(4 * n_state, n_state)
        self.mlp_ln = nn.LayerNorm(n_state)

    def __call__(self, x: Array, attend_own: AttendOwn, attend: Attend, rows_per_tile: int | None) -> Array:
        def linear(layer: nn.Module, y: Array) -> Array:
            return ops.linear(layer, y, rows_per_tile)

        y, attn = ops.layer_norm(self.attn_ln, x), self.attn
        q, k, v = (attn.split_heads(linear(layer, y)) for layer in (attn.query, attn.key, attn.value))
        x = x + linear(attn.out, merge_heads(attend_own(q, k, v)))

        y, attn = ops.layer_norm(self.cross_attn_ln, x), self.cross_attn
        x = x + linear(attn.out, merge_heads(attend(attn.split_heads(linear(attn.query, y)))))

        return x + linear(self.mlp2, ops.gelu(linear(self.mlp1, ops.layer_norm(self.mlp_ln, x))))


@dataclass
class KVCache:
    """Keys and values of the chunks of a running batch, a slot each; preallocated and written in place.

    Per layer a pair of arrays: `own` (n_slots, n_head, n_beams * n_text_ctx, head_dim), `cross` (n_slots, n_head,
    n_audio_ctx, head_dim).
    """

    own: list[list[Array]]
    cross: list[list[Array]]

    @classmethod
    def allocate(cls, dims: WhisperDimensions, n_slots: int, dtype: Any, *, n_beams: int = 1) -> "KVCache":
        """dtype : the network's, of MLX or NumPy"""
        zeros: Callable[..., Array] = mx.zeros if isinstance(dtype, mx.Dtype) else np.zeros

        def pairs(length: int) -> list[list[Array]]:
            shape = (n_slots, dims.n_text_head, length, dims.n_text_state // dims.n_text_head)
            return [[zeros(shape, dtype), zeros(shape, dtype)] for _ in range(dims.n_text_layer)]

        return cls(pairs(n_beams * dims.n_text_ctx), pairs(dims.n_audio_ctx))

    @property
    def capacity(self) -> int:
        """How many tokens' keys and values a slot holds."""
        capacity: int = self.own[0][0].shape[2]
        return capacity

    def fill(self, slot: int, own: Sequence[KeyValue], cross: Sequence[KeyValue]) -> None:
        """Put a chunk, its prompt's and its audio's keys and values, into a slot."""
        for arrays, new in zip([*self.own, *self.cross], [*own, *cross], strict=True):
            for array, part in zip(arrays, new, strict=True):
                array[slot : slot + 1, :, : part.shape[2]] = part

    def move(self, source: int, target: int) -> None:
        """Copy a chunk to another slot."""
        for array in self._arrays():
            array[target : target + 1] = array[source : source + 1]

    def cross_of(self, slot: int) -> list[KeyValue]:
        """The keys and values of a chunk's audio. To be let go before the next write, which else copies the cache."""
        return [(keys[slot : slot + 1], values[slot : slot + 1]) for keys, values in self.cross]

    def settle(self) -> None:
        """Finish all writing. Then nothing else refers to the arrays, and the next write happens in place."""
        if not ops.is_on_host(self.own[0][0]):
            mx.eval(self._arrays())

    def _arrays(self) -> list[Array]:
        return [array for pair in (*self.own, *self.cross) for array in pair]


class BeamKeys(NamedTuple):
    """Where the beams of n chunks find their past: the slot of a chunk holds the keys of all its beams at every step.

    They stay where they were written. A beam that goes on from another one sees what that one saw.
    """

    places: Sequence[int]  # (n,): where the keys of the new tokens go, one after the other
    seen: npt.NDArray[np.bool_]  # (n, n_beams, capacity): what each beam attends to, its new token included


class TextDecoder(nn.Module):
    def __init__(self, dims: WhisperDimensions, rows_per_tile: int | None) -> None:
        super().__init__()
        self.rows_per_tile = rows_per_tile  # None: products of as many rows as there are, and no batch invariance
        self.token_embedding = nn.Embedding(dims.n_vocab, dims.n_text_state)
        self.positional_embedding = mx.zeros((dims.n_text_ctx, dims.n_text_state))
        self.blocks = [DecoderBlock(dims.n_text_state, dims.n_text_head) for _ in range(dims.n_text_layer)]
        self.ln = nn.LayerNorm(dims.n_text_state)

    def lay_out(self, rows_per_tile: int, embeddings: Array | None = None) -> None:
        """On the host, before the first token: weights as the products with tiles want them.

        embeddings : the same as those of the tokens in float16, to be looked up in half the memory
        """
        # The largest first, while there are no copies of the others.
        layer: nn.Module = self.token_embedding
        looked_up = layer.weight if embeddings is None else embeddings
        ops.lay_out_for_tiles(layer, rows_per_tile)
        # Copied out of the file only now, when those in float32 are gone.
        layer.weight = looked_up if embeddings is None else looked_up.copy()
        for block in self.blocks:
            attn, cross = block.attn, block.cross_attn
            for layer in (attn.query, attn.key, attn.value, attn.out, cross.query, cross.out, block.mlp1, block.mlp2):
                ops.lay_out_for_tiles(layer, rows_per_tile)

    def cross_key_value(self, features: Array) -> list[KeyValue]:
        """Per layer, keys and values (1, n_head, n_audio_ctx, head_dim) of encoded audio: once for each chunk."""
        contiguous = np.ascontiguousarray if ops.is_on_host(features) else mx.contiguous

        def contiguous_heads(attn: MultiHeadAttention, layer: nn.Module) -> Array:
            # Else fused attention copies them at each step.
            return contiguous(attn.split_heads(ops.linear(layer, features)))

        attns = [block.cross_attn for block in self.blocks]
        return [(contiguous_heads(attn, attn.key), contiguous_heads(attn, attn.value)) for attn in attns]

    def prefill(self, tokens: Sequence[int], cross: Sequence[KeyValue]) -> tuple[Array, list[KeyValue]]:
        """A prompt of T tokens, one row: hidden states (T, n_text_state), and the tokens' keys and values per layer."""
        hidden, own, _ = self._read(tokens, cross)
        return hidden, own

    def listen(
        self, tokens: Sequence[int], cross: Sequence[KeyValue], heads: Heads, n_frames: int
    ) -> tuple[Array, Array]:
        """Known tokens, T of one row: hidden states (T, n_text_state), and how well each suits each frame.

        That is the scaled product of query and key, float32 (n_heads, T, n_frames), in the cross-attention heads
        (layer, head) and for the first frames.
        """
        hidden, _, queries = self._read(tokens, cross)
        scores = [queries[layer][0, head] @ cross[layer][0][0, head, :n_frames].T for layer, head in heads.tolist()]
        xp = ops.library(hidden)
        return hidden, xp.stack(scores).astype(xp.float32) * queries[0].shape[-1] ** -0.5

    def _read(self, tokens: Sequence[int], cross: Sequence[KeyValue]) -> tuple[Array, list[KeyValue], list[Array]]:
        """T tokens of one row: hidden states; per layer keys and values, and queries to the sound (1, nh, T, hs)."""
        own: list[KeyValue] = []
        queries: list[Array] = []

        def attend_own(q: Array, k: Array, v: Array) -> Array:
            own.append((k, v))
            return ops.causal_attention(q, k, v)

        ids = ops.like(self.positional_embedding, list(tokens))
        x = (ops.embedding(self.token_embedding, ids) + self.positional_embedding[: len(tokens)])[None]
        for block, key_value in zip(self.blocks, cross, strict=True):

            def attend(q: Array, key_value: KeyValue = key_value) -> Array:
                queries.append(q)
                return ops.attention(q, *key_value)

            x = block(x, attend_own, attend, self.rows_per_tile)
        return ops.layer_norm(self.ln, x)[0], own, queries

    def step(self, tokens: Array, positions: Sequence[int], cache: KVCache, beams: BeamKeys | None = None) -> Array:
        """One token of each row of n chunks, in slots 0..n-1 at `positions` (n,) -> hidden states, one for each token.

        tokens : (n * n_beams,), those of a chunk one after the other; a chunk has one row unless `beams` tells more

        The tokens' keys and values are written to the cache.
        """
        n_chunks, xp = len(positions), ops.library(self.positional_embedding)
        # (n, n_beams, n_text_state)
        x = ops.embedding(self.token_embedding, ops.like(self.positional_embedding, tokens).reshape(n_chunks, -1))
        x = x + self.positional_embedding[xp.array(list(positions))][:, None]
        first = xp.array(list(beams.places if beams else positions))[:, None]
        chunks, places = xp.arange(n_chunks)[:, None], first + xp.arange(x.shape[1])  # (n, 1), (n, n_beams)
        attend_past = _attention_to_past(beams or positions, cache)
        for block, own, cross in zip(self.blocks, cache.own, cache.cross, strict=True):

            def attend_own(q: Array, k: Array, v: Array, own: list[Array] = own) -> Array:
                own[0][chunks, :, places] = k.swapaxes(1, 2)
                own[1][chunks, :, places] = v.swapaxes(1, 2)
                return attend_past(q, own[0][:n_chunks], own[1][:n_chunks])

            def attend(q: Array, cross: list[Array] = cross) -> Array:
                # The beams stand where a prompt has its tokens: all of them attend to one copy of keys.
                return ops.attention(q, cross[0][:n_chunks], cross[1][:n_chunks])

            x = block(x, attend_own, attend, self.rows_per_tile)
        hidden = ops.layer_norm(self.ln, x)
        return hidden.reshape(-1, hidden.shape[-1])

    def logits(self, hidden: Array) -> Array:
        """Scores of every token, float32 (M, n_vocab), of hidden states (M, n_text_state)."""
        logits = ops.linear(self.token_embedding, hidden, self.rows_per_tile)
        return logits if ops.is_on_host(logits) else logits.astype(mx.float32)


def _attention_to_past(past: BeamKeys | Sequence[int], cache: KVCache) -> AttendOwn:
    """Attention of q (n, nh, n_beams, hs) to the keys and values in n slots, of each row to what it may see."""
    if isinstance(past, BeamKeys):
        seen, n_keys = past.seen, [place + past.seen.shape[1] for place in past.places]
    else:
        seen, n_keys = None, [position + 1 for position in past]
    if ops.is_on_host(cache.own[0][0]):
        return lambda q, k, v: ops.past_attention(q, k, v, n_keys, seen)
    windows = _windows(n_keys, seen, cache.capacity)
    return lambda q, k, v: _attend_windows(q, k, v, windows)


class _Window(NamedTuple):
    """The first `length` keys of each slot, for those chunks whose past fits in, but in no shorter window.

    There are few lengths, and a chunk's does not depend on its neighbours.
    """

    length: int
    seen: mx.array  # (n, 1, n_beams, length)
    is_theirs: mx.array  # (n, 1, 1, 1)


_SHORTEST_WINDOW = 64


def _windows(n_keys: list[int], seen: npt.NDArray[np.bool_] | None, capacity: int) -> list[_Window]:
    """The windows that chunks need which look at their first `n_keys`, or at those of them that are `seen`."""
    lengths = [min(max(_SHORTEST_WINDOW, 1 << (n - 1).bit_length()), capacity) for n in n_keys]
    if seen is None:
        is_seen = mx.arange(max(lengths)) < mx.array(n_keys)[:, None, None, None]
    else:
        is_seen = mx.array(seen[:, None, :, : max(lengths)])
    return [
        _Window(length, is_seen[..., :length], mx.array([own == length for own in lengths])[:, None, None, None])
        for length in sorted(set(lengths))
    ]


def _attend_windows(q: mx.array, k: mx.array, v: mx.array, windows: list[_Window]) -> mx.array:
    """Attention of q (n, nh, n_beams, hs) to keys and values (n, nh, capacity, hs), each chunk in its window."""

    def attend(window: _Window) -> mx.array:
        return ops.masked_attention(q, k[:, :, : window.length], v[:, :, : window.length], window.seen)

    mixed = attend(windows[0])
    for window in windows[1:]:
        mixed = mx.where(window.is_theirs, attend(window), mixed)
    return mixed


class Whisper(nn.Module):
    """Encoder and decoder of one checkpoint."""

    def __init__(self, dims: WhisperDimensions, rows_per_tile: int | None) -> None:
        super().__init__()
        self.encoder = AudioEncoder(dims)
        self.decoder = TextDecoder(dims, rows_per_tile)
        self.dims = dims

    @property
    def dtype(self) -> Any:
        """Of the numbers that it computes with, MLX's or NumPy's."""
        return self.decoder.positional_embedding.dtype

    @property
    def bytes_per_number(self) -> int:
        return int(np.dtype(np.float32).itemsize if self.is_on_host else self.dtype.size)

    @property
    def is_on_host(self) -> bool:
        return ops.is_on_host(self.decoder.positional_embedding)

    def encode(self, mel: npt.NDArray[np.float32]) -> Array:
        """Features (1, n_audio_ctx, n_audio_state) of a mel spectrogram (n_mels, 2 * n_audio_ctx)."""
        spectrogram = np.ascontiguousarray(mel.T)
        return self.encoder(spectrogram if self.is_on_host else mx.array(spectrogram, dtype=self.dtype))

    def hear(self, features: Array) -> list[KeyValue]:
        """`TextDecoder.cross_key_value` of features, computed."""
        cross = self.decoder.cross_key_value(features)
        if not self.is_on_host:
            mx.eval(features, cross)
        return cross
