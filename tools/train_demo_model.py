"""Train examples/demo-model: a Whisper of three million parameters that hears the small domain of demo_speech.py.

    python tools/train_demo_model.py                     synthesise, train, export, evaluate
    python tools/train_demo_model.py --evaluate          evaluate the exported folder

Needs torch (CPU), numpy, tiktoken, this project on the path, and the programs espeak-ng and flite. Runs on two cores;
stop it at any time and start it again: it goes on from its last checkpoint in --work.

What makes so small a model learn in so short a time:
- The synthesisers tell when each sound and so each word is spoken. Half of the encoder's layers learn to name the sound
  at each position; all of them the word, and the word before it, by which the decoder finds its way in a sentence.
- In each layer of the decoder one head is told to look where the token to be written is heard. Alone the decoder would
  learn the templates long before it listens. These heads are the model's alignment heads.
- Attention begins with looking at the neighbourhood.
- Windows of one sentence first, then several at random places of the encoder's 30 s, then full windows.
- Only the few hundred tokens of the domain have rows of their own; all other rows of the embedding are zero, so their
  logits are 0 at run time. One more column, log(number of zero rows), stands for them in the softmax.
- The rows of the timestamps are one linear map of the encoder's own sinusoids, since both count in 0.02 s: what is
  learnt about one time holds for all.
The heads that name sounds and words are dropped at export.
"""

import argparse
import json
import logging
import math
import multiprocessing
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import demo_speech
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody names it
from demo_speech import Utterance, Voice
from torch import Tensor, nn

from whisperx.audio import N_SAMPLES, SAMPLE_RATE, log_mel_spectrogram, mel_filters
from whisperx.tokenizer import Tokenizer, get_tokenizer

log = logging.getLogger("train_demo_model")

ROOT = Path(__file__).parents[1]
FRAMES_PER_SECOND = 100  # of the mel spectrogram; the encoder has half as many positions, one per timestamp
WINDOW = 3000  # mel frames of 30 s
SILENCE = -10.0  # log10 of the floor that the mel spectrogram puts under its power


@dataclass(frozen=True)
class Dims:
    n_mels: int = 80
    n_audio_ctx: int = 1500
    n_audio_state: int = 192
    n_audio_head: int = 3
    n_audio_layer: int = 4
    n_vocab: int = 51865
    n_text_ctx: int = 448
    n_text_state: int = 192
    n_text_head: int = 3
    n_text_layer: int = 2


@dataclass(frozen=True)
class Plan:
    """How to train. The schedule counts steps, so that the result does not depend on the speed of the machine."""

    seed: int = 20261122
    n_utterances: int = 7000
    n_steps: int = 3400
    single_until: int = 300  # steps with one sentence in a window
    full_from: int = 1400  # step from which on half of the windows are of 30 s
    polish_from: int = 3000  # and all of them, most without timestamps
    seconds_per_step: float = 72.0  # of audio in a batch
    learning_rate: float = 3e-3
    warmup: int = 100
    decay_from: int = 960  # step from which on the learning rate falls
    decay_to: int = 3200  # and would be zero; while polishing it falls more slowly, to zero at the end
    weight_decay: float = 0.02
    averaging: float = 0.995  # the exported weights are a running mean of the trained ones


# ---- the network: Whisper, with the names of MLX checkpoints ----


def sinusoids(length: int, channels: int) -> Tensor:
    """Whisper's encoder positions: sines, then cosines, of geometric frequencies from 1 to 1e-4 rad per position."""
    scales = torch.exp(-math.log(10000) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(length)[:, None] * scales
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Attention(nn.Module):
    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.query = nn.Linear(n_state, n_state)
        self.key = nn.Linear(n_state, n_state, bias=False)
        self.value = nn.Linear(n_state, n_state)
        self.out = nn.Linear(n_state, n_state)

    def forward(self, x: Tensor, source: Tensor | None = None, *, causal: bool = False) -> Tensor:
        source = x if source is None else source
        q, k, v = (self._heads(y) for y in (self.query(x), self.key(source), self.value(source)))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)  # (B, H, T, 64)
        return self.out(y.transpose(1, 2).flatten(2))

    def alignment(self, x: Tensor, source: Tensor) -> Tensor:
        """Log-probabilities `(B, L, T)` with which head 0 looks at each place of `source`."""
        n = self.query.out_features // self.n_head
        q = F.linear(x, self.query.weight[:n], self.query.bias[:n])
        k = F.linear(source, self.key.weight[:n])
        return (q @ k.transpose(1, 2) / math.sqrt(n)).log_softmax(2)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.n_head, -1)).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, n_state: int, n_head: int, *, cross: bool) -> None:
        super().__init__()
        self.attn = Attention(n_state, n_head)
        self.attn_ln = nn.LayerNorm(n_state)
        self.cross_attn = Attention(n_state, n_head) if cross else None
        self.cross_attn_ln = nn.LayerNorm(n_state) if cross else None
        self.mlp1 = nn.Linear(n_state, 4 * n_state)
        self.mlp2 = nn.Linear(4 * n_state, n_state)
        self.mlp_ln = nn.LayerNorm(n_state)

    def forward(self, x: Tensor, audio: Tensor | None = None, alignments: list[Tensor] | None = None) -> Tensor:
        x = x + self.attn(self.attn_ln(x), causal=self.cross_attn is not None)
        if self.cross_attn is not None and self.cross_attn_ln is not None:
            y = self.cross_attn_ln(x)
            if alignments is not None:
                alignments.append(self.cross_attn.alignment(y, audio))
            x = x + self.cross_attn(y, audio)
        return x + self.mlp2(F.gelu(self.mlp1(self.mlp_ln(x))))


class Encoder(nn.Module):
    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(dims.n_mels, dims.n_audio_state, 3, padding=1)
        self.conv2 = nn.Conv1d(dims.n_audio_state, dims.n_audio_state, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            Block(dims.n_audio_state, dims.n_audio_head, cross=False) for _ in range(dims.n_audio_layer)
        )
        self.ln_post = nn.LayerNorm(dims.n_audio_state)
        self.register_buffer("positions", sinusoids(dims.n_audio_ctx, dims.n_audio_state), persistent=False)

    def forward(self, mel: Tensor, first_position: Tensor) -> tuple[Tensor, Tensor]:
        """Mel `(B, T, n_mels)` and where each window begins `(B,)` to what half and all layers make `(B, T / 2, D)`."""
        x = F.gelu(self.conv1(mel.transpose(1, 2)))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self.positions[first_position[:, None] + torch.arange(x.shape[1])]
        half = len(self.blocks) // 2
        for block in self.blocks[:half]:
            x = block(x)
        middle = x
        for block in self.blocks[half:]:
            x = block(x)
        return middle, self.ln_post(x)


class Decoder(nn.Module):
    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(0.05 * sinusoids(dims.n_text_ctx, dims.n_text_state))
        self.blocks = nn.ModuleList(
            Block(dims.n_text_state, dims.n_text_head, cross=True) for _ in range(dims.n_text_layer)
        )
        self.ln = nn.LayerNorm(dims.n_text_state)

    def forward(self, rows: Tensor, audio: Tensor, table: Tensor, alignments: list[Tensor] | None = None) -> Tensor:
        """Rows of `table` `(B, L)` and encoded audio to logits `(B, L, len(table))`."""
        x = table[rows] + self.positional_embedding[: rows.shape[1]]
        for block in self.blocks:
            x = block(x, audio, alignments)
        return self.ln(x) @ table.T


class Whisper(nn.Module):
    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.encoder = Encoder(dims)
        self.decoder = Decoder(dims)


# How far to both sides the layers of the encoder look at first, in positions of 0.02 s.
NEARBY = (1.5, 3.0, 6.0, 12.0)


def look_nearby(attention: Attention, shifts: Sequence[float], sharpness: float) -> None:
    """Let each head begin by looking `shifts[head]` positions further on.

    Queries and keys pick the faster sinusoids out of the positions; a rotation of the queries moves the place where
    they agree. Learning to hear starts with the sounds nearby, which random weights take thousands of steps to find.
    """
    n_state = attention.query.in_features
    n_fast = n_state // attention.n_head // 2
    scales = torch.exp(-math.log(10000) / (n_state // 2 - 1) * torch.arange(n_fast))
    fast = torch.arange(n_fast)
    with torch.no_grad():
        for head, shift in enumerate(shifts):
            sines, cosines = fast + 2 * n_fast * head, fast + 2 * n_fast * head + n_fast
            c, s = torch.cos(scales * shift), torch.sin(scales * shift)
            for weight in (attention.query.weight, attention.key.weight):
                weight[2 * n_fast * head : 2 * n_fast * (head + 1)] *= 0.3
            attention.key.weight[sines, fast] += sharpness
            attention.key.weight[cosines, fast + n_state // 2] += sharpness
            # sin(w(t + shift)) and cos(w(t + shift)) of the position t that asks
            attention.query.weight[sines, fast] += sharpness * c
            attention.query.weight[sines, fast + n_state // 2] += sharpness * s
            attention.query.weight[cosines, fast + n_state // 2] += sharpness * c
            attention.query.weight[cosines, fast] -= sharpness * s


class Trainee(nn.Module):
    """Whisper with what training adds: rows for the used tokens only, and heads that name what the encoder hears."""

    def __init__(self, dims: Dims, n_text_rows: int, n_phones: int, n_words: int) -> None:
        super().__init__()
        self.dims = dims
        self.whisper = Whisper(dims)
        for block, distance in zip(self.whisper.encoder.blocks, NEARBY, strict=True):
            look_nearby(block.attn, (-distance, 0, distance), sharpness=1.6)
        look_nearby(self.whisper.decoder.blocks[0].attn, (0, -1, -2), sharpness=1.6)
        with torch.no_grad():
            # As they come, the sounds would be a twentieth as loud as the positions that are added to them.
            self.whisper.encoder.conv1.weight *= 2
            self.whisper.encoder.conv2.weight *= 6
        self.phones = nn.Linear(dims.n_audio_state, n_phones)
        self.words = nn.Linear(dims.n_audio_state, n_words)
        self.words_before = nn.Linear(dims.n_audio_state, n_words)
        self.text_rows = nn.Parameter(0.05 * torch.randn(n_text_rows, dims.n_text_state))
        self.time_rows = nn.Linear(dims.n_text_state, dims.n_text_state, bias=True)
        nn.init.orthogonal_(self.time_rows.weight, gain=0.07)
        self.register_buffer("times", sinusoids(1501, dims.n_text_state), persistent=False)

    def table(self) -> Tensor:
        """Embedding of the used tokens: text and special ones, then the 1501 timestamps."""
        return torch.cat([self.text_rows, self.time_rows(self.times)])


# ---- tokens ----


class Vocabulary:
    """The used tokens, and their rows in the table that is trained."""

    def __init__(self, n_vocab: int) -> None:
        self.tokenizer = get_tokenizer(n_vocab)
        tok = self.tokenizer
        self.english = tok.language_tokens["en"]
        self.transcribe = tok.special["<|transcribe|>"]
        specials = [tok.eot, tok.sot, self.english, self.transcribe, tok.no_speech, tok.no_timestamps]
        self.text_tokens = self._text_tokens()
        times = list(range(tok.timestamp_begin, tok.timestamp_begin + 1501))
        self.tokens = [*self.text_tokens, *specials, *times]
        self.row = {token: row for row, token in enumerate(self.tokens)}
        self.n_text_rows = len(self.text_tokens) + len(specials)
        self.n_zero_rows = n_vocab - len(self.tokens)
        self.word_class = {
            word: i for i, word in enumerate(["", *sorted(set(demo_speech.words(" ".join(demo_speech.vocabulary()))))])
        }

    def _text_tokens(self) -> list[int]:
        """Every token of every word with and without capital, in mid-sentence and before punctuation."""
        words = demo_speech.vocabulary()
        texts = {f" {word}{mark}" for word in words for mark in ("", ".", "?", ",")}
        texts |= {f" {word[0].upper()}{word[1:]}{mark}" for word in words for mark in ("", ".", ",")}
        return sorted({token for text in texts for token in self.tokenizer.encode(text)})

    def rows(self, tokens: Sequence[int]) -> list[int]:
        return [self.row[token] for token in tokens]


# ---- speech ----


def mel_power(audio: np.ndarray) -> np.ndarray:
    """log10 of the mel power `(n_frames, 80)`, not yet clamped below the window's maximum nor scaled."""
    window = np.hanning(401)[:-1].astype(np.float32)
    padded = np.pad(audio, 200, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160][:-1]
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    return np.log10(np.maximum(power @ mel_filters(None, 80).T, 1e-10))


def normalized(power: np.ndarray) -> np.ndarray:
    """What `log_mel_spectrogram` makes of the log power of one window."""
    return (np.maximum(power, power.max() - 8.0) + 4.0) / 4.0


@dataclass(frozen=True)
class Spoken:
    """An utterance, its frames one for each 0.01 s."""

    power: np.ndarray  # (n_frames, 80), log10 of the mel power
    phones: np.ndarray  # (n_frames,), 0 is silence
    words: np.ndarray  # (n_frames,), the number of the word in its sentence, from 1; 0 is silence


def _speak(utterance: Utterance) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Log mel power of an utterance; for each frame its sound's name, "" is silence, and the number of its word."""
    speech = demo_speech.synthesize(utterance.text, utterance.voice)
    power = mel_power(speech.audio).astype(np.float16)
    names, words = [""] * len(power), np.zeros(len(power), np.uint8)
    for name, start, word in speech.sounds:
        first = max(round(start * FRAMES_PER_SECOND), 0)
        names[first:] = ["" if word < 0 else name] * len(names[first:])
        words[first:] = word + 1
    return power, names, words


class Corpus:
    """Spoken utterances as log mel power, made once and kept in `folder`."""

    def __init__(self, folder: Path, seed: int, n: int) -> None:
        self.utterances = list(demo_speech.training_utterances(seed, n))
        path = folder / f"corpus-{seed}-{n}.npz"
        if not path.exists():
            _synthesize_corpus(self.utterances, path)
        with np.load(path) as arrays:
            self.power, self.phones, self.words = arrays["power"], arrays["phones"], arrays["words"]
            ends = arrays["ends"]
            self.n_phones = len(arrays["phone_names"])
        self.starts = np.concatenate([[0], ends[:-1]])
        self.n_frames = ends - self.starts
        self.by_length = np.argsort(self.n_frames, kind="stable")

    def __getitem__(self, index: int) -> Spoken:
        frames = slice(self.starts[index], self.starts[index] + self.n_frames[index])
        return Spoken(self.power[frames].astype(np.float32), self.phones[frames], self.words[frames])

    def pick(self, rng: np.random.Generator, shortest: float = 0.0, longest: float = np.inf) -> int:
        """Any utterance of `shortest` to `longest` frames."""
        low, high = np.searchsorted(self.n_frames, [shortest, longest], side="right", sorter=self.by_length)
        return int(self.by_length[rng.integers(low, max(high, low + 1))])


def _synthesize_corpus(utterances: list[Utterance], path: Path) -> None:
    began = time.monotonic()
    with multiprocessing.Pool(2) as pool:
        spoken = pool.map(_speak, utterances, chunksize=50)
    ends = np.cumsum([len(power) for power, _, _ in spoken])
    phone_names = sorted({name for _, names, _ in spoken for name in names} | {""})
    number = {name: i for i, name in enumerate(phone_names)}
    temporary = path.with_suffix(".part.npz")
    np.savez(
        temporary,
        power=np.concatenate([power for power, _, _ in spoken]),
        phones=np.array([number[name] for _, names, _ in spoken for name in names], np.uint8),
        words=np.concatenate([words for _, _, words in spoken]),
        phone_names=phone_names,
        ends=ends,
    )
    temporary.replace(path)
    log.info("%d utterances, %.1f h, in %.0f s", len(spoken), ends[-1] / 360000, time.monotonic() - began)


# ---- windows ----


@dataclass(frozen=True)
class Placed:
    """An utterance in a window, in positions of the encoder."""

    text: str
    start: int
    end: int
    words: list[tuple[int, int]]  # where each word begins and ends


@dataclass(frozen=True)
class Window:
    mel: np.ndarray  # (n_frames, 80), normalised
    phones: np.ndarray  # (n_frames / 2,), one for each position of the encoder
    first_position: int  # of the encoder
    placed: list[Placed]


LONGEST_STRETCH = 1.06


def vary(spoken: Spoken, rng: np.random.Generator) -> Spoken:
    """Another voice and room for one utterance: warped in time and frequency, coloured, louder or softer."""
    n_frames, n_mels = spoken.power.shape
    t = np.linspace(0, n_frames - 1, int(n_frames * rng.uniform(0.95, LONGEST_STRETCH)))
    low = np.minimum(t.astype(int), n_frames - 2)
    power = spoken.power[low] + (t - low)[:, None] * (spoken.power[low + 1] - spoken.power[low])

    bins = np.clip(np.arange(n_mels) * rng.uniform(0.96, 1.04) + rng.uniform(-0.7, 0.7), 0, n_mels - 1)
    low = np.minimum(bins.astype(int), n_mels - 2)
    power = power[:, low] + (bins - low) * (power[:, low + 1] - power[:, low])

    x = np.arange(n_mels) / n_mels
    colour = sum(rng.normal(0, 0.1) * np.cos(np.pi * k * x + rng.uniform(0, np.pi)) for k in range(1, 5))
    nearest = np.rint(t).astype(int)
    power = np.asarray(power + colour + rng.normal(0, 0.2), np.float32)
    return Spoken(power, spoken.phones[nearest], spoken.words[nearest])


def place(text: str, start: int, words: np.ndarray) -> Placed:
    """`text` from frame `start` on, with the number of the word in each frame."""
    bounds, end = [], start // 2
    for number in range(1, len(demo_speech.words(text)) + 1):
        frames = np.flatnonzero(words == number)
        first = (start + frames[0]) // 2 if len(frames) else end
        end = max((start + frames[-1]) // 2 + 1 if len(frames) else end, first + 2)
        bounds.append((first, end))
    return Placed(text, start // 2, (start + len(words)) // 2, bounds)


def mask(mel: np.ndarray, rng: np.random.Generator) -> None:
    """SpecAugment (Park et al. 2019, arxiv:1904.08779), in place: some bands and moments fall silent."""
    low = mel.min()
    for _ in range(rng.integers(0, 3)):
        width = rng.integers(1, 10)
        start = rng.integers(0, mel.shape[1] - width)
        mel[:, start : start + width] = low
    for _ in range(rng.integers(0, 1 + len(mel) // 150)):
        width = rng.integers(1, 12)
        start = rng.integers(0, len(mel) - width)
        mel[start : start + width] = low


def add_noise(power: np.ndarray, rng: np.random.Generator, loudest: float) -> None:
    """Steady noise of a random colour, 2.5 to 5.5 decades below `loudest`, in place."""
    n_frames, n_mels = power.shape
    x = np.arange(n_mels) / n_mels
    level = loudest - rng.uniform(2.5, 5.5) + rng.normal(0, 0.6) * x + rng.normal(0, 0.3) * np.cos(3 * np.pi * x)
    flutter = np.log10(rng.gamma(3.0, 1 / 3.0, (n_frames, n_mels)) + 1e-4)
    np.maximum(power, level + flutter, out=power)


def _gaps(kind: str, rng: np.random.Generator) -> float:
    if kind == "dense":
        return float(rng.uniform(0.05, 0.5))
    return float(rng.uniform(0.2, 1.6) if rng.random() < 0.9 else rng.uniform(1.6, 3.5))


def make_window(corpus: Corpus, n_frames: int, kind: str, rng: np.random.Generator) -> Window:
    """A window of `n_frames` of one kind.

    "one" holds one sentence anywhere; "dense" and "paused" several from near the beginning on, as speech between the
    bounds of a voice activity detector; "silence" none. A full window ends in the zeros that padding makes.
    """
    power = np.full((n_frames, 80), SILENCE, np.float32)
    phones = np.zeros(n_frames, np.int64)
    placed: list[Placed] = []
    is_full = n_frames == WINDOW
    audible = n_frames if not is_full or rng.random() < 0.5 else int(rng.uniform(0.3, 1) * n_frames)
    if kind == "one":
        # A short window is well filled: its silence would cost time and teach nothing.
        longest = n_frames / LONGEST_STRETCH
        index = corpus.pick(rng, 0.6 * longest if n_frames < WINDOW else 0.0, longest)
        spoken = vary(corpus[index], rng)
        length = len(spoken.power)
        start = int(rng.integers(0, n_frames - length + 1))
        if is_full and rng.random() < 0.7:
            start = min(start, int(rng.uniform(5, 60)))
            audible = min(n_frames, start + length + int(rng.uniform(5, 60)))
        power[start : start + length] = spoken.power
        phones[start : start + length] = spoken.phones
        placed.append(place(corpus.utterances[index].text, start, spoken.words))
    elif kind != "silence":
        at = int(100 * rng.uniform(0.0, 0.6))
        while True:
            index = corpus.pick(rng, longest=np.inf if placed else 0.8 * audible)
            spoken = vary(corpus[index], rng)
            length = len(spoken.power)
            if at + length > audible:
                break
            power[at : at + length] = spoken.power
            phones[at : at + length] = spoken.phones
            placed.append(place(corpus.utterances[index].text, at, spoken.words))
            at += length + int(100 * _gaps(kind, rng))
        audible = min(n_frames, 2 * placed[-1].end + int(rng.uniform(5, 60)))
    if rng.random() < (0.8 if kind == "silence" else 0.35):
        loudest = float(power.max()) if placed else float(rng.uniform(-6, 2))
        add_noise(power[:audible], rng, loudest)
    mel = normalized(power)
    if placed and rng.random() < 0.3:
        mask(mel[:audible], rng)
    first = 0 if is_full else int(rng.integers(0, (WINDOW - n_frames) // 2 + 1))
    return Window(mel.astype(np.float32), phones[::2], first, placed)


def batch_shape(corpus: Corpus, plan: Plan, step: int, rng: np.random.Generator) -> tuple[int, list[str]]:
    """Frames of this step's windows, and the kind of each."""
    if step >= plan.polish_from or (step >= plan.full_from and rng.random() < 0.5):
        n = round(1.25 * FRAMES_PER_SECOND * plan.seconds_per_step / WINDOW)
        return WINDOW, list(rng.choice(["one", "dense", "paused", "silence"], n, p=[0.15, 0.4, 0.4, 0.05]))
    if step >= plan.single_until and rng.random() < 0.7:
        n_frames = int(rng.uniform(300, 650)) * 2
        kinds, shares = ["dense", "paused"], [0.6, 0.4]
    else:
        n_frames = int(1.25 * corpus.n_frames[corpus.pick(rng, 100)]) // 2 * 2
        kinds, shares = ["one", "silence"], [0.96, 0.04]
    n = int(FRAMES_PER_SECOND * plan.seconds_per_step / n_frames)
    return n_frames, list(rng.choice(kinds, n, p=shares))


# ---- targets ----

# A timestamp's target is spread over its neighbours: where speech begins is not known to 0.02 s.
TIME_SPREAD = ((-2, 0.1), (-1, 0.2), (0, 0.4), (1, 0.2), (2, 0.1))


Span = tuple[int, int]  # positions of the encoder within a window; (0, 0) is nowhere


@dataclass(frozen=True)
class TokenSequence:
    inputs: list[int]  # rows
    targets: list[int]  # rows; -1 is not trained
    spans: list[Span]  # where each target is heard
    is_silence: bool


def make_sequence(
    window: Window, vocabulary: Vocabulary, share_with_times: float, rng: np.random.Generator
) -> TokenSequence:
    """Input and target rows of one window, with or without timestamps; silence with an immediate end."""
    tok = vocabulary.tokenizer
    with_times = rng.random() < share_with_times
    full = len(window.mel) == WINDOW
    prompt = [tok.sot, vocabulary.english, vocabulary.transcribe]
    if not with_times:
        prompt.append(tok.no_timestamps)
    body: list[tuple[int, Span]] = []
    for i, placed in enumerate(window.placed):
        start = window.first_position + placed.start
        if full and i == 0:
            # Decoding lets no transcript begin late, or has it always begin at 0.
            start = min(start, 50) if rng.random() < 0.7 else 0
        end = min(window.first_position + placed.end, 1500)
        tokens = token_spans(placed, tok)
        if with_times:
            tokens.insert(0, (tok.timestamp_begin + start, (placed.start - 3, placed.start + 10)))
            tokens.append((tok.timestamp_begin + end, (placed.end - 10, placed.end + 5)))
        body += tokens
    if not window.placed and rng.random() < 0.5:
        # What decoding goes on to ask when its rules forbid the end as first token.
        time, word = tok.timestamp_begin + int(rng.integers(51)), int(rng.choice(vocabulary.text_tokens))
        body.append((time if with_times else word, (0, 0)))
    spoken_end = window.placed[-1].end if window.placed else 0
    body.append((tok.eot, (spoken_end - 8, spoken_end + 25) if spoken_end else (0, 0)))
    rows = vocabulary.rows([*prompt, *(token for token, _ in body)])
    inputs, targets = rows[:-1], rows[1:]
    n = len(prompt)
    targets[: n - 1] = [vocabulary.row[vocabulary.english if window.placed else tok.no_speech]] + [-1] * (n - 2)
    if not window.placed:
        targets[n - 1 :] = [vocabulary.row[tok.eot]] * (len(targets) - n + 1)
    spans = [(0, 0)] * (n - 1) + [span for _, span in body]
    return TokenSequence(inputs, targets, spans, not window.placed)


def token_spans(placed: Placed, tokenizer: Tokenizer) -> list[tuple[int, Span]]:
    """The tokens of a sentence and where each is heard; marks at the end of the word before them."""
    spans, n_words = [], 0
    for token in tokenizer.encode(" " + placed.text):
        piece = tokenizer.decode([token])
        n_words += piece.startswith(" ")
        start, end = placed.words[n_words - 1]
        spans.append((token, (start, end) if piece[-1].isalpha() else (end - 8, end + 12)))
    return spans


def corrupted(inputs: list[int], vocabulary: Vocabulary, share: float, rng: np.random.Generator) -> list[int]:
    """Some text tokens replaced by others, so that the decoder must listen and not only read what it wrote."""
    n_text = len(vocabulary.text_tokens)
    return [
        int(rng.integers(n_text)) if row < n_text and rng.random() < share else row  # text rows come first
        for row in inputs
    ]


def frame_words(window: Window, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """For each position of the encoder the word that is heard, and the one before; 0 is silence."""
    words, before = np.zeros((2, len(window.phones)), np.int64)
    last = 0
    for placed in window.placed:
        for word, (start, end) in zip(demo_speech.words(placed.text), placed.words, strict=True):
            words[start:end], before[start:end] = vocabulary.word_class[word], last
            last = vocabulary.word_class[word]
    return words, before


@dataclass(frozen=True)
class Batch:
    mel: Tensor  # (B, T, 80)
    phones: Tensor  # (B, T / 2)
    words: Tensor  # (B, T / 2)
    words_before: Tensor  # (B, T / 2)
    first_position: Tensor  # (B,)
    inputs: Tensor  # (B, L) rows
    targets: Tensor  # (B, L) rows, -1 not trained
    spans: Tensor  # (B, L, 2)
    is_silence: Tensor  # (B,)


def make_batch(corpus: Corpus, vocabulary: Vocabulary, plan: Plan, step: int) -> Batch:
    rng = np.random.default_rng([plan.seed, step])
    n_frames, kinds = batch_shape(corpus, plan, step, rng)
    windows = [make_window(corpus, n_frames, kind, rng) for kind in kinds]
    share_with_times = 0.2 if step >= plan.polish_from else 0.35
    sequences = [make_sequence(window, vocabulary, share_with_times, rng) for window in windows]
    words = np.array([frame_words(window, vocabulary) for window in windows])
    inputs = [torch.tensor(corrupted(s.inputs, vocabulary, 0.05, rng)) for s in sequences]
    targets = [torch.tensor(s.targets) for s in sequences]
    spans = [torch.tensor(s.spans) for s in sequences]
    return Batch(
        mel=torch.from_numpy(np.stack([window.mel for window in windows])),
        phones=torch.from_numpy(np.stack([window.phones for window in windows])),
        words=torch.from_numpy(words[:, 0]),
        words_before=torch.from_numpy(words[:, 1]),
        first_position=torch.tensor([window.first_position for window in windows]),
        inputs=nn.utils.rnn.pad_sequence(inputs, batch_first=True),
        targets=nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=-1),
        spans=nn.utils.rnn.pad_sequence(spans, batch_first=True),
        is_silence=torch.tensor([s.is_silence for s in sequences]),
    )


# ---- training ----


@dataclass(frozen=True)
class Losses:
    """All in nats: per token, per position of the encoder, and per token for where the decoder looks."""

    token: Tensor
    phone: Tensor
    word: Tensor
    before: Tensor
    look: Tensor


def losses(model: Trainee, batch: Batch, vocabulary: Vocabulary) -> Losses:
    middle, audio = model.whisper.encoder(batch.mel, batch.first_position)
    alignments: list[Tensor] = []
    logits = model.whisper.decoder(batch.inputs, audio, model.table(), alignments)
    phones = model.phones(F.layer_norm(middle, middle.shape[2:]))
    return Losses(
        token=token_loss(logits, batch, vocabulary),
        phone=F.cross_entropy(phones.flatten(0, 1), batch.phones.flatten()),
        word=F.cross_entropy(model.words(audio).flatten(0, 1), batch.words.flatten()),
        before=F.cross_entropy(model.words_before(audio).flatten(0, 1), batch.words_before.flatten()),
        look=sum((look_loss(a, batch.spans) for a in alignments), torch.zeros(())) / len(alignments),
    )


def look_loss(alignment: Tensor, spans: Tensor) -> Tensor:
    """How little of the attention `(B, L, T)` is where the tokens are heard: -log of its share there."""
    heard = spans[..., 1] > 0
    positions = torch.arange(alignment.shape[2])
    start, end = spans[heard][:, :1], spans[heard][:, 1:]
    inside = (positions >= start) & (positions < end)  # (N, T)
    return -alignment[heard].masked_fill(~inside, -30.0).logsumexp(1).sum() / heard.sum().clamp(min=1)


def token_loss(logits: Tensor, batch: Batch, vocabulary: Vocabulary) -> Tensor:
    n_text, n_rows = vocabulary.n_text_rows, logits.shape[2]
    trained = batch.targets >= 0
    logits, targets = logits[trained], batch.targets[trained]  # (N, rows), (N,)
    zero_rows = torch.full((len(logits), 1), math.log(vocabulary.n_zero_rows))
    total = torch.logsumexp(torch.cat([logits, zero_rows], dim=1), dim=1)

    is_time = targets >= n_text
    shifted = [(targets + shift).clamp(n_text, n_rows - 1) for shift, _ in TIME_SPREAD]
    near = sum(w * logits.gather(1, t[:, None])[:, 0] for t, (_, w) in zip(shifted, TIME_SPREAD, strict=True))
    hit = logits.gather(1, targets[:, None])[:, 0]
    # After the end of silence every word is as likely: no sentence follows when a rule forbids the end.
    is_end = targets == vocabulary.row[vocabulary.tokenizer.eot]
    unsure = is_end & batch.is_silence[:, None].expand(trained.shape)[trained]
    any_word = logits[:, : len(vocabulary.text_tokens)].mean(1)
    wanted = torch.where(is_time, near, torch.where(unsure, 0.9 * hit + 0.1 * any_word, hit))
    return (total - wanted).mean()


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, for the matrices inside the blocks (Jordan et al. 2024).

    torch.optim.Muon computes in bfloat16 and one matrix at a time; here equal shapes go together, in float32.
    """

    def __init__(self, matrices: Sequence[nn.Parameter], weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": 0.0, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                shapes.setdefault(matrix.shape, []).append(matrix)
            for (n_out, n_in), matrices in shapes.items():
                updates = orthogonalized(torch.stack([self._momentum(m, group["momentum"]) for m in matrices]))
                # 0.2 sqrt(n): as large as an update of Adam's, so that both take one learning rate (Liu et al. 2025).
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                scale = -group["lr"] * 0.2 * math.sqrt(max(n_out, n_in))
                torch._foreach_add_(matrices, list(updates.unbind()), alpha=scale)

    def _momentum(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        state = self.state[matrix]
        if not state:
            state["mean"] = torch.zeros_like(matrix)
        state["mean"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(state["mean"], momentum)


def orthogonalized(x: Tensor) -> Tensor:
    """Matrices `(N, rows, columns)` with all singular values near 1, by five Newton-Schulz steps."""
    if x.shape[1] > x.shape[2]:
        return orthogonalized(x.transpose(1, 2)).transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def learning_rate(plan: Plan, step: int) -> float:
    warm = min(1.0, (step + 1) / plan.warmup)
    left = (plan.decay_to - min(step, plan.polish_from)) / (plan.decay_to - plan.decay_from)
    polishing = (plan.n_steps - step) / (plan.n_steps - plan.polish_from)
    return plan.learning_rate * warm * min(1.0, left) * min(1.0, polishing)


def train(plan: Plan, dims: Dims, work: Path, folder: Path) -> None:
    """Train to the end of the plan, from the last checkpoint in `work` if there is one; export to `folder`."""
    torch.manual_seed(plan.seed)
    vocabulary = Vocabulary(dims.n_vocab)
    corpus = Corpus(work, plan.seed, plan.n_utterances)
    model, mean = (Trainee(dims, vocabulary.n_text_rows, corpus.n_phones, len(vocabulary.word_class)) for _ in range(2))
    mean.load_state_dict(model.state_dict())
    blocks = [*model.whisper.encoder.blocks.parameters(), *model.whisper.decoder.blocks.parameters()]
    matrices = [p for p in blocks if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is matrix for matrix in matrices)]
    optimizers = (
        Muon(matrices, plan.weight_decay),
        torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=plan.weight_decay),
    )
    checkpoint = work / "checkpoint.pt"
    first_step, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        mean.load_state_dict(state["mean"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first_step, seconds = state["step"], state["seconds"]
        log.info("going on from step %d", first_step)
    log.info("%d parameters, %d text rows", sum(p.numel() for p in model.parameters()), vocabulary.n_text_rows)

    began = time.monotonic()
    sums: Counter[str] = Counter()
    pool = ThreadPoolExecutor(1)  # makes a batch while the one before is learnt
    coming = pool.submit(make_batch, corpus, vocabulary, plan, first_step)
    for step in range(first_step, plan.n_steps):
        batch = coming.result()
        coming = pool.submit(make_batch, corpus, vocabulary, plan, step + 1)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate(plan, step)
        loss = losses(model, batch, vocabulary)
        model.zero_grad()
        # What names the sounds and says where to look leads at first; in the end the transcript counts.
        aid = 1 - 0.8 * min(step, plan.polish_from) / plan.decay_to
        (loss.token + aid * (loss.phone + loss.word + 0.5 * loss.before + 0.5 * loss.look)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.parameters()), list(model.parameters()), 1 - plan.averaging)
        sums.update({name: value.item() for name, value in vars(loss).items()})
        done = step + 1
        if done % 50 == 0:
            elapsed = seconds + time.monotonic() - began
            means = "  ".join(f"{name} {total / 50:.3f}" for name, total in sums.items())
            log.info("step %d  %.0f s  %s", done, elapsed, means)
            sums.clear()
        if done % 250 == 0 or done == plan.n_steps:
            state = {"model": model.state_dict(), "mean": mean.state_dict()}
            state["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
            state |= {"step": done, "seconds": seconds + time.monotonic() - began}
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
    pool.shutdown()
    export(mean, vocabulary, folder)


# ---- the exported folder ----


def export(model: Trainee, vocabulary: Vocabulary, folder: Path) -> None:
    """Write `weights.npz` (fp16, MLX's names and layout) and `config.json`."""
    table = torch.zeros(model.dims.n_vocab, model.dims.n_text_state)
    with torch.no_grad():
        table[vocabulary.tokens] = model.table()
    weights = {"decoder.token_embedding.weight": table, **model.whisper.state_dict()}
    arrays = {name: w.transpose(1, 2) if _is_convolution(name) else w for name, w in weights.items()}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "weights.part.npz"
    np.savez_compressed(temporary, **{name: np.ascontiguousarray(w.half().numpy()) for name, w in arrays.items()})
    temporary.replace(folder / "weights.npz")
    heads = {"alignment_heads": [[layer, 0] for layer in range(model.dims.n_text_layer)]}
    (folder / "generation_config.json").write_text(json.dumps(heads) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper"} | asdict(model.dims), indent=2) + "\n")


def _is_convolution(name: str) -> bool:
    return bool(re.fullmatch(r"encoder\.conv\d\.weight", name))


class Exported:
    """The exported folder in torch, with greedy decoding: an independent check, slow and plain."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.dims = Dims(**{name: config[name] for name in asdict(Dims())})
        with np.load(folder / "weights.npz") as arrays:
            weights = {name: torch.from_numpy(arrays[name]).float() for name in arrays}
        self.table = weights.pop("decoder.token_embedding.weight")
        self.model = Whisper(self.dims)
        self.model.load_state_dict({n: w.transpose(1, 2) if _is_convolution(n) else w for n, w in weights.items()})
        self.tokenizer = get_tokenizer(self.dims.n_vocab)
        self.timed = self.tokenizer.prompt("en", "transcribe", without_timestamps=False)
        self.untimed = self.tokenizer.prompt("en", "transcribe", without_timestamps=True)

    @torch.inference_mode()
    def encode(self, audio: np.ndarray) -> Tensor:
        """At most 30 s of audio to `(1, 1500, D)`."""
        mel = log_mel_spectrogram(np.pad(audio, (0, N_SAMPLES - len(audio))), self.dims.n_mels)
        return self.model.encoder(torch.from_numpy(mel.T[None].copy()), torch.zeros(1, dtype=torch.long))[1]

    @torch.inference_mode()
    def first_token(self, encoded: Tensor) -> Tensor:
        """Probabilities `(n_vocab,)` of what follows startoftranscript: the language, or no speech."""
        logits = self.model.decoder(torch.tensor([[self.tokenizer.sot]]), encoded, self.table)
        return logits[0, -1].softmax(0)

    @torch.inference_mode()
    def greedy(self, encoded: Tensor, prompt: Sequence[int]) -> list[int]:
        """The likeliest tokens after `prompt`, without the end."""
        tokens = list(prompt)
        while len(tokens) < 224:
            logits = self.model.decoder(torch.tensor([tokens]), encoded, self.table)
            token = int(logits[0, -1].argmax())
            if token == self.tokenizer.eot:
                break
            tokens.append(token)
        return tokens[len(prompt) :]


@dataclass(frozen=True)
class Recording:
    """At most 30 s of sentences with pauses, and where each is in seconds."""

    audio: np.ndarray
    texts: list[str]
    times: list[tuple[float, float]]

    @staticmethod
    def of(texts: list[str], voices: list[Voice], rng: random.Random) -> "Recording":
        audio, times, kept = [np.zeros(int(rng.uniform(0.1, 0.5) * SAMPLE_RATE), np.float32)], [], []
        for text, voice in zip(texts, voices, strict=True):
            start = sum(map(len, audio))
            speech = demo_speech.synthesize(text, voice).audio
            if start + len(speech) > N_SAMPLES:
                break
            audio += [speech, np.zeros(int(rng.uniform(0.3, 1.2) * SAMPLE_RATE), np.float32)]
            times.append((start / SAMPLE_RATE, (start + len(speech)) / SAMPLE_RATE))
            kept.append(text)
        return Recording(np.concatenate(audio)[:N_SAMPLES], kept, times)


def word_errors(reference: list[str], hypothesis: list[str]) -> int:
    """Substitutions, insertions and deletions (Levenshtein) between two lists of words."""
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def evaluate(folder: Path, n: int, seed: int = 7) -> None:
    """Print word error rates on held-out sentences, how far timestamps are off, and what silence gives."""
    model = Exported(folder)
    rng = random.Random(seed)  # noqa: S311
    voices = {
        "voices heard in training": lambda: demo_speech.known_voice(rng),
        "flite rms, never heard": lambda: demo_speech.FLITE_HELD_OUT,
        "espeak-ng en-us+linda, never heard": lambda: demo_speech.ESPEAK_HELD_OUT,
    }
    print(f"{'held-out sentences':36} {'layout':12} sentences  words  WER    WER with timestamps  exact")
    for name, voice in voices.items():
        texts = demo_speech.held_out_sentences(rng.randrange(10**6), n)
        single = [Recording.of([text], [voice()], rng) for text in texts]
        packed = [Recording.of(texts[i : i + 8], [voice() for _ in texts[i : i + 8]], rng) for i in range(0, n, 8)]
        for layout, recordings in (("one in 30 s", single), ("up to 8", packed)):
            _print_word_errors(model, name, layout, recordings)
            if name.startswith("voices") and layout == "up to 8":
                _print_time_errors(model, recordings)
    _print_silence(model, np.random.default_rng(seed))
    print(f"weights.npz: {(folder / 'weights.npz').stat().st_size / 1e6:.2f} MB, vocabulary of the domain:", end=" ")
    print(len({word.lower() for word in demo_speech.vocabulary()}), "words")


def _print_word_errors(model: Exported, name: str, layout: str, recordings: list[Recording]) -> None:
    errors = timed_errors = n_words = exact = 0
    for recording in recordings:
        encoded = model.encode(recording.audio)
        text = model.tokenizer.decode(model.greedy(encoded, model.untimed))
        timed = model.tokenizer.decode(model.greedy(encoded, model.timed))
        reference = " ".join(recording.texts)
        errors += word_errors(demo_speech.words(reference), demo_speech.words(text))
        timed_errors += word_errors(demo_speech.words(reference), demo_speech.words(timed))
        n_words += len(demo_speech.words(reference))
        exact += text == " " + reference
    n_sentences = sum(len(recording.texts) for recording in recordings)
    rates = f"{100 * errors / n_words:5.2f}% {100 * timed_errors / n_words:18.2f}%"
    print(f"{name:36} {layout:12} {n_sentences:9} {n_words:6} {rates}  {exact}/{len(recordings)}", flush=True)


def _print_time_errors(model: Exported, recordings: list[Recording]) -> None:
    begin, end = model.tokenizer.timestamp_begin, model.tokenizer.eot
    errors: list[float] = []
    n_matching = 0
    for recording in recordings:
        tokens = model.greedy(model.encode(recording.audio), model.timed)
        times = [0.02 * (token - begin) for token in tokens if token >= begin]
        expected = [time for pair in recording.times for time in pair]
        if len(times) == len(expected):
            n_matching += 1
            errors += [abs(a - b) for a, b in zip(times, expected, strict=True)]
        assert all(token < end or token >= begin for token in tokens), "a special token in the transcript"
    median, p95 = np.percentile(errors, [50, 95]) if errors else (np.nan, np.nan)
    print(f"  timestamps: {n_matching}/{len(recordings)} recordings with one pair a sentence;", end=" ")
    print(f"off by {median:.2f} s (median), {p95:.2f} s (95 %)", flush=True)


def _print_silence(model: Exported, rng: np.random.Generator) -> None:
    """Zeros and noise: is no speech seen, is the transcript empty, and is a forced one improbable?"""
    n, n_seen, n_empty = 20, 0, 0
    for i in range(n):
        audio = (10 ** rng.uniform(-4, -1) * rng.standard_normal(N_SAMPLES) * (i > 0)).astype(np.float32)
        encoded = model.encode(audio)
        n_seen += float(model.first_token(encoded)[model.tokenizer.no_speech]) > 0.6
        n_empty += not model.greedy(encoded, model.untimed) and not model.greedy(encoded, model.timed)
    print(f"silence and noise: no-speech probability > 0.6 in {n_seen}/{n}, empty transcript in {n_empty}/{n}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo-model", help="corpus and checkpoint")
    parser.add_argument("--evaluate", type=int, metavar="N", nargs="?", const=200, help="only this, on N sentences")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(args.threads)
    folder = ROOT / "examples" / "demo-model"
    if args.evaluate:
        evaluate(folder, args.evaluate)
    else:
        args.work.mkdir(parents=True, exist_ok=True)
        train(Plan(), Dims(), args.work, folder)
