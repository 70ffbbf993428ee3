"""The running batch: rows enter with a prompt and encoded audio, take a step together, and leave when they are done."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from whisperx.models.whisper.filters import TokenRules
from whisperx.models.whisper.model import KeyValue, KVCache, Whisper
from whisperx.schema import Meter


@dataclass
class Row:
    """One chunk on its way through the decoder."""

    chunk: int
    prompt: tuple[int, ...]
    sot: int
    eot: int
    max_new_tokens: int
    tokens: list[int] = field(default_factory=list)
    sum_logprob: float = 0.0
    no_speech_prob: float = 0.0
    done: bool = False

    @property
    def start(self) -> int:
        """Where in the prompt the transcript starts: what stands before is context."""
        return self.prompt.index(self.sot)

    @property
    def newest_token(self) -> int:
        return self.tokens[-1] if self.tokens else self.prompt[-1]

    @property
    def position(self) -> int:
        """Where the newest token stands."""
        return len(self.prompt) + len(self.tokens) - 1

    def accept(self, token: int, logprob: float) -> None:
        if self.done:
            return
        self.sum_logprob += logprob
        if token == self.eot:
            self.done = True
        else:
            self.tokens.append(token)
            self.done = len(self.tokens) == self.max_new_tokens

    @property
    def avg_logprob(self) -> float:
        return self.sum_logprob / (len(self.tokens) + 1)


@dataclass(frozen=True)
class _Step:
    """A step under way: for each row of the batch the token chosen and its scores."""

    tokens: mx.array  # (n,)
    logits: mx.array  # (n, n_vocab)

    def read(self) -> tuple[list[int], npt.NDArray[np.float32]]:
        """Wait for the step: tokens and their log-probabilities."""
        if mx.default_device() == mx.cpu:
            logprobs = _logprobs_of_host(np.asarray(self.logits), np.asarray(self.tokens))
        else:
            chosen = mx.take_along_axis(self.logits, self.tokens[:, None], axis=-1)[:, 0]
            logprobs = np.asarray(chosen - mx.logsumexp(self.logits, axis=-1))
        return np.asarray(self.tokens).tolist(), logprobs


def _logprobs_of_host(logits: npt.NDArray[np.float32], tokens: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    """On a CPU, while MLX works on the next step: NumPy's exp is vectorised, MLX's is not (13 times slower)."""
    logprobs = np.empty(len(tokens), np.float32)
    for row, token in enumerate(tokens):
        scores = logits[row]
        top = scores.max()
        logprobs[row] = scores[token] - top - np.log(np.exp(scores - top).sum())
    return logprobs


class Batch:
    """At most `n_slots` rows that take their steps together. What a row yields does not depend on the others."""

    def __init__(self, model: Whisper, rules: TokenRules, n_slots: int, meter: Meter) -> None:
        self._decoder = model.decoder
        self._rules = rules
        self._n_slots = n_slots
        self._rows: list[Row | None] = []  # row i has slot i of the cache; None: its row has left
        self._cache = KVCache.allocate(model.dims, n_slots, model.dtype)
        self._meter = meter

    @property
    def has_rows(self) -> bool:
        return any(self._rows)

    @property
    def has_room(self) -> bool:
        return self._rows.count(None) + self._n_slots - len(self._rows) > 0

    def enter(self, row: Row, cross: list[KeyValue]) -> None:
        """Run the prompt of a row, choose its first token, and give it a slot."""
        hidden, own = self._decoder.prefill(row.prompt, cross)
        at_start, at_end = self._decoder.logits(hidden[mx.array([row.start, len(row.prompt) - 1])])
        row.no_speech_prob = float(np.asarray(mx.softmax(at_start))[self._rules.no_speech])
        _record([row], _choose(self._rules.first(at_end[None])))
        slot = self._rows.index(None) if None in self._rows else len(self._rows)
        self._rows[slot : slot + 1] = [row]
        self._cache.fill(slot, own, cross)
        self._cache.settle()

    def advance(self) -> list[Row]:
        """Take steps until some row is done; those that are done leave.

        Each step is started before the one before it is read.
        """
        rows = self._close_ranks()
        step = self._start_step(rows, mx.array([row.newest_token for row in rows]), ahead=0)
        while not any(row.done for row in rows):
            following = self._start_step(rows, step.tokens, ahead=1)
            _record(rows, step)
            step = following
        _record(rows, step)
        self._rows = [None if row.done else row for row in rows]
        return [row for row in rows if row.done]

    def _close_ranks(self) -> list[Row]:
        """Move the last rows into empty slots, so that the rows stand in slots 0..n-1."""
        rows = self._rows
        while None in rows:
            last = rows.pop()
            if last is not None:
                slot = rows.index(None)
                self._cache.move(len(rows), slot)
                rows[slot] = last
        self._cache.settle()
        return [row for row in rows if row is not None]

    def _start_step(self, rows: list[Row], tokens: mx.array, *, ahead: int) -> _Step:
        last = self._decoder.positional_embedding.shape[0] - 1
        positions = [min(row.position + ahead, last) for row in rows]  # past the last only in a row that is done
        hidden = self._decoder.step(tokens, positions, self._cache)
        step = _choose(self._rules.next(self._decoder.logits(hidden)))
        mx.async_eval(step.tokens, step.logits)
        self._meter.count("steps")
        self._meter.count("live_rows", len(rows))
        self._meter.count("rows", self._n_slots)
        return step


def _choose(logits: mx.array) -> _Step:
    return _Step(mx.argmax(logits, axis=-1), logits)


def _record(rows: list[Row], step: _Step) -> None:
    for row, token, logprob in zip(rows, *step.read(), strict=True):
        row.accept(token, float(logprob))


def run(
    batch: Batch, rows: Iterable[Row], encode: Callable[[Row], list[KeyValue]], meter: Meter, *, refill: bool = True
) -> Iterator[Row]:
    """Decode rows in a running batch, yielding each when it is done.

    A waiting row enters as soon as a slot is free; with `refill` off, only when the whole batch is done. That is slower
    and yields the same.
    """
    waiting = deque(rows)
    while waiting or batch.has_rows:
        entering = refill or not batch.has_rows
        while entering and waiting and batch.has_room:
            cross = encode(waiting[0])
            with meter.time("decode tokens"):
                batch.enter(waiting.popleft(), cross)
        with meter.time("decode tokens"):
            finished = batch.advance()
        yield from finished
