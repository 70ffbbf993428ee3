"""Whisper's network in MLX: audio encoder, text decoder, and the key-value caches of a running batch.

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
from typing import NamedTuple

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx import nn

from whisperx.checkpoints import WhisperDimensions, sinusoids
from whisperx.checkpoints.alignment_heads import Heads
from whisperx.models.ops import attention, cross_attention, encoder_attention, encoder_gelu, gelu

KeyValue = tuple[mx.array, mx.array]  # each (n, n_head, n_ctx, head_dim)

AttendOwn = Callable[[mx.array, mx.array, mx.array], mx.array]  # self-attention of q, k, v, each (B, nh, T, hs)
Attend = Callable[[mx.array], mx.array]  # attention to the sound of q (B, nh, T, hs)


def tiled(layer: Callable[[mx.array], mx.array], x: mx.array, rows_per_tile: int) -> mx.array:
    """`layer` on the rows of x (..., n_in), never on more or fewer than `rows_per_tile` at a time."""
    rows = x.reshape(-1, x.shape[-1])
    n_rows = len(rows)
    if n_rows % rows_per_tile:
        rows = mx.pad(rows, [(0, -n_rows % rows_per_tile), (0, 0)])
    tiles = [layer(rows[i : i + rows_per_tile]) for i in range(0, len(rows), rows_per_tile)]
    y = tiles[0] if len(tiles) == 1 else mx.concatenate(tiles)
    return y[:n_rows].reshape(*x.shape[:-1], -1)


class MultiHeadAttention(nn.Module):
    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.query = nn.Linear(n_state, n_state)
        self.key = nn.Linear(n_state, n_state, bias=False)
        self.value = nn.Linear(n_state, n_state)
        self.out = nn.Linear(n_state, n_state)

    def split_heads(self, x: mx.array) -> mx.array:
        batch, length, n_state = x.shape
        return x.reshape(batch, length, self.n_head, n_state // self.n_head).swapaxes(1, 2)  # (B, nh, T, hs)


def merge_heads(x: mx.array) -> mx.array:
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

    def __call__(self, x: mx.array) -> mx.array:
        y, attn = self.attn_ln(x), self.attn
        q, k, v = (attn.split_heads(layer(y)) for layer in (attn.query, attn.key, attn.value))
        x = x + attn.out(merge_heads(encoder_attention(q, k, v)))
        return x + self.mlp2(encoder_gelu(self.mlp1(self.mlp_ln(x))))


class AudioEncoder(nn.Module):
    def __init__(self, dims: WhisperDimensions) -> None:
        super().__init__()
        n_state = dims.n_audio_state
        self.conv1 = nn.Conv1d(dims.n_mels, n_state, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(n_state, n_state, kernel_size=3, stride=2, padding=1)
        self.positional_embedding = mx.array(sinusoids(dims.n_audio_ctx, n_state))
        self.blocks = [EncoderBlock(n_state, dims.n_audio_head) for _ in range(dims.n_audio_layer)]
        self.ln_post = nn.LayerNorm(n_state)

    def __call__(self, mel: mx.array) -> mx.array:
        """Features (1, n_audio_ctx, n_audio_state) of one mel spectrogram (2 * n_audio_ctx, n_mels)."""
        x = encoder_gelu(self.conv1(mel[None]))
        x = encoder_gelu(self.conv2(x)) + self.positional_embedding
        for block in self.blocks:
            x = block(x)
        features: mx.array = self.ln_post(x)
        return features


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

    def __call__(self, x: mx.array, attend_own: AttendOwn, attend: Attend, rows_per_tile: int) -> mx.array:
        def linear(layer: nn.Module, y: mx.array) -> mx.array:
            return tiled(layer, y, rows_per_tile)

        y, attn = self.attn_ln(x), self.attn
        q, k, v = (attn.split_heads(linear(layer, y)) for layer in (attn.query, attn.key, attn.value))
        x = x + linear(attn.out, merge_heads(attend_own(q, k, v)))

        y, attn = self.cross_attn_ln(x), self.cross_attn
        x = x + linear(attn.out, merge_heads(attend(attn.split_heads(linear(attn.query, y)))))

        return x + linear(self.mlp2, gelu(linear(self.mlp1, self.mlp_ln(x))))


@dataclass
class KVCache:
    """Keys and values of the chunks of a running batch, a slot each; preallocated and written in place.

    Per layer a pair of arrays: `own` (n_slots, n_head, n_beams * n_text_ctx, head_dim), `cross` (n_slots, n_head,
    n_audio_ctx, head_dim).
    """

    own: list[list[mx.array]]
    cross: list[list[mx.array]]

    @classmethod
    def allocate(cls, dims: WhisperDimensions, n_slots: int, dtype: mx.Dtype, *, n_beams: int = 1) -> "KVCache":
        def pairs(length: int) -> list[list[mx.array]]:
            shape = (n_slots, dims.n_text_head, length, dims.n_text_state // dims.n_text_head)
            return [[mx.zeros(shape, dtype), mx.zeros(shape, dtype)] for _ in range(dims.n_text_layer)]

        return cls(pairs(n_beams * dims.n_text_ctx), pairs(dims.n_audio_ctx))

    @property
    def capacity(self) -> int:
        """How many tokens' keys and values a slot holds."""
        return self.own[0][0].shape[2]

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
        mx.eval(self._arrays())

    def _arrays(self) -> list[mx.array]:
        return [array for pair in (*self.own, *self.cross) for array in pair]


class BeamKeys(NamedTuple):
    """Where the beams of n chunks find their past: the slot of a chunk holds the keys of all its beams at every step.

    They stay where they were written. A beam that goes on from another one sees what that one saw.
    """

    places: Sequence[int]  # (n,): where the keys of the new tokens go, one after the other
    seen: npt.NDArray[np.bool_]  # (n, n_beams, capacity): what each beam attends to, its new token included


class TextDecoder(nn.Module):
    def __init__(self, dims: WhisperDimensions, rows_per_tile: int) -> None:
        super().__init__()
        self.rows_per_tile = rows_per_tile
        self.token_embedding = nn.Embedding(dims.n_vocab, dims.n_text_state)
        self.positional_embedding = mx.zeros((dims.n_text_ctx, dims.n_text_state))
        self.blocks = [DecoderBlock(dims.n_text_state, dims.n_text_head) for _ in range(dims.n_text_layer)]
        self.ln = nn.LayerNorm(dims.n_text_state)

    def cross_key_value(self, features: mx.array) -> list[KeyValue]:
        """Per layer, keys and values (1, n_head, n_audio_ctx, head_dim) of encoded audio: once for each chunk."""

        def contiguous_heads(attn: MultiHeadAttention, layer: nn.Module) -> mx.array:
            return mx.contiguous(attn.split_heads(layer(features)))  # else fused attention copies them at each step

        attns = [block.cross_attn for block in self.blocks]
        return [(contiguous_heads(attn, attn.key), contiguous_heads(attn, attn.value)) for attn in attns]

    def prefill(self, tokens: Sequence[int], cross: Sequence[KeyValue]) -> tuple[mx.array, list[KeyValue]]:
        """A prompt of T tokens, one row: hidden states (T, n_text_state), and the tokens' keys and values per layer."""
        hidden, own, _ = self._read(tokens, cross)
        return hidden, own

    def listen(
        self, tokens: Sequence[int], cross: Sequence[KeyValue], heads: Heads, n_frames: int
    ) -> tuple[mx.array, mx.array]:
        """Known tokens, T of one row: hidden states (T, n_text_state), and how well each suits each frame.

        That is the scaled product of query and key, float32 (n_heads, T, n_frames), in the cross-attention heads
        (layer, head) and for the first frames.
        """
        hidden, _, queries = self._read(tokens, cross)
        scores = [queries[layer][0, head] @ cross[layer][0][0, head, :n_frames].T for layer, head in heads.tolist()]
        return hidden, mx.stack(scores).astype(mx.float32) * queries[0].shape[-1] ** -0.5

    def _read(
        self, tokens: Sequence[int], cross: Sequence[KeyValue]
    ) -> tuple[mx.array, list[KeyValue], list[mx.array]]:
        """T tokens of one row: hidden states; per layer keys and values, and queries to the sound (1, nh, T, hs)."""
        own: list[KeyValue] = []
        queries: list[mx.array] = []

        def attend_own(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
            own.append((k, v))
            return attention(q, k, v, "causal")

        x = (self.token_embedding(mx.array(list(tokens))) + self.positional_embedding[: len(tokens)])[None]
        for block, key_value in zip(self.blocks, cross, strict=True):

            def attend(q: mx.array, key_value: KeyValue = key_value) -> mx.array:
                queries.append(q)
                return cross_attention(q, *key_value)

            x = block(x, attend_own, attend, self.rows_per_tile)
        return self.ln(x)[0], own, queries

    def step(
        self, tokens: mx.array, positions: Sequence[int], cache: KVCache, beams: BeamKeys | None = None
    ) -> mx.array:
        """One token of each row of n chunks, in slots 0..n-1 at `positions` (n,) -> hidden states, one for each token.

        tokens : (n * n_beams,), those of a chunk one after the other; a chunk has one row unless `beams` tells more

        The tokens' keys and values are written to the cache.
        """
        n_chunks = len(positions)
        x = self.token_embedding(tokens.reshape(n_chunks, -1))  # (n, n_beams, n_text_state)
        x = x + self.positional_embedding[mx.array(list(positions))][:, None]
        first = mx.array(list(beams.places if beams else positions))[:, None]
        chunks, places = mx.arange(n_chunks)[:, None], first + mx.arange(x.shape[1])  # (n, 1), (n, n_beams)
        windows = _windows(beams or positions, cache.capacity)
        for block, own, cross in zip(self.blocks, cache.own, cache.cross, strict=True):

            def attend_own(q: mx.array, k: mx.array, v: mx.array, own: list[mx.array] = own) -> mx.array:
                own[0][chunks, :, places] = k.swapaxes(1, 2)
                own[1][chunks, :, places] = v.swapaxes(1, 2)
                return _attend_windows(q, own[0][:n_chunks], own[1][:n_chunks], windows)

            def attend(q: mx.array, cross: list[mx.array] = cross) -> mx.array:
                # The beams stand where a prompt has its tokens: all of them attend to one copy of keys.
                return cross_attention(q, cross[0][:n_chunks], cross[1][:n_chunks])

            x = block(x, attend_own, attend, self.rows_per_tile)
        hidden: mx.array = self.ln(x)
        return hidden.reshape(-1, hidden.shape[-1])

    def logits(self, hidden: mx.array) -> mx.array:
        """Scores of every token, float32 (M, n_vocab), of hidden states (M, n_text_state)."""
        return tiled(self.token_embedding.as_linear, hidden, self.rows_per_tile).astype(mx.float32)


class _Window(NamedTuple):
    """The first `length` keys of each slot, for those chunks whose past fits in, but in no shorter window.

    There are few lengths, and a chunk's does not depend on its neighbours.
    """

    length: int
    seen: mx.array  # (n, 1, n_beams, length)
    is_theirs: mx.array  # (n, 1, 1, 1)


_SHORTEST_WINDOW = 64


def _windows(past: BeamKeys | Sequence[int], capacity: int) -> list[_Window]:
    """The windows that chunks need whose rows see `past`: with one row each, the keys up to its position."""
    if isinstance(past, BeamKeys):
        n_keys = [place + past.seen.shape[1] for place in past.places]
    else:
        n_keys = [position + 1 for position in past]
    lengths = [min(max(_SHORTEST_WINDOW, 1 << (n - 1).bit_length()), capacity) for n in n_keys]
    if isinstance(past, BeamKeys):
        seen = mx.array(past.seen[:, None, :, : max(lengths)])
    else:
        seen = mx.arange(max(lengths)) < mx.array(n_keys)[:, None, None, None]
    return [
        _Window(length, seen[..., :length], mx.array([own == length for own in lengths])[:, None, None, None])
        for length in sorted(set(lengths))
    ]


def _attend_windows(q: mx.array, k: mx.array, v: mx.array, windows: list[_Window]) -> mx.array:
    """Attention of q (n, nh, n_beams, hs) to keys and values (n, nh, capacity, hs), each chunk in its window."""

    def attend(window: _Window) -> mx.array:
        return attention(q, k[:, :, : window.length], v[:, :, : window.length], window.seen)

    mixed = attend(windows[0])
    for window in windows[1:]:
        mixed = mx.where(window.is_theirs, attend(window), mixed)
    return mixed


class Whisper(nn.Module):
    """Encoder and decoder of one checkpoint."""

    def __init__(self, dims: WhisperDimensions, rows_per_tile: int) -> None:
        super().__init__()
        self.encoder = AudioEncoder(dims)
        self.decoder = TextDecoder(dims, rows_per_tile)
        self.dims = dims

    @property
    def dtype(self) -> mx.Dtype:
        return self.decoder.positional_embedding.dtype
