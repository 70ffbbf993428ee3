"""The running batch: rows enter with a prompt and encoded audio, take a step together, and leave when they are done."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from whisperx.errors import OptionError
from whisperx.models.ops import Array, is_on_host, library, like, logsumexp
from whisperx.models.whisper.filters import History, TokenRules
from whisperx.models.whisper.model import KeyValue, KVCache, Whisper
from whisperx.models.whisper.row import Row
from whisperx.schema import Meter


@dataclass(frozen=True)
class _Step:
    """A step under way: for each row of the batch the token chosen and its scores."""

    tokens: Array  # (n,)
    logits: Array  # (n, n_vocab)

    def read(self) -> tuple[list[int], npt.NDArray[np.float32]]:
        """Wait for the step: tokens and their log-probabilities."""
        if is_on_host(self.logits):
            rows = zip(self.logits, self.tokens[:, None], strict=True)
            logprobs = np.concatenate([logprobs_on_host(*row) for row in rows])
        else:
            chosen = mx.take_along_axis(self.logits, self.tokens[:, None], axis=-1)[:, 0]
            logprobs = np.asarray(chosen - logsumexp(self.logits))
        return np.asarray(self.tokens).tolist(), logprobs


def logprobs_on_host(scores: npt.NDArray[np.float32], tokens: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Log-probabilities of tokens (n,), given the scores (n_vocab,) of all."""
    top = scores.max()
    if top == -np.inf:
        return np.full(len(tokens), top)
    logprobs: npt.NDArray[np.float32] = scores[tokens] - top - np.log(np.exp(scores - top).sum())
    return logprobs


class _Finishing(Protocol):
    @property
    def done(self) -> bool: ...


Occupant = TypeVar("Occupant", bound=_Finishing)


class RunningBatch(ABC, Generic[Occupant]):
    """Chunks that take their steps together, at most `n_slots`. What one yields does not depend on the others.

    A row that enters becomes the occupant of a slot of the cache, and a row again when it is done.
    """

    def __init__(self, model: Whisper, rules: TokenRules, n_slots: int, meter: Meter, *, n_beams: int = 1) -> None:
        self._decoder = model.decoder
        self._rules = rules
        self._n_slots = n_slots
        self._occupants: list[Occupant | None] = []  # occupant i has slot i of the cache; None: it has left
        self._cache = KVCache.allocate(model.dims, n_slots, model.dtype, n_beams=n_beams)
        self._n_beams = n_beams
        self._meter = meter

    def fits(self, row: Row) -> bool:
        """Whether this is the kind of batch for a row."""
        return row.n_beams == self._n_beams

    @property
    def has_rows(self) -> bool:
        return any(occupant is not None for occupant in self._occupants)

    @property
    def has_room(self) -> bool:
        return self._occupants.count(None) + self._n_slots - len(self._occupants) > 0

    def enter(self, row: Row, cross: list[KeyValue]) -> None:
        """Run the prompt of a row, choose its first token, and give it a slot."""
        hidden, own = self._decoder.prefill(row.prompt, cross)
        at_start, at_end = self._decoder.logits(hidden[library(hidden).array([row.start, len(row.prompt) - 1])])
        row.no_speech_prob = float(np.exp(logprobs_on_host(np.asarray(at_start), np.array([self._rules.no_speech]))[0]))
        occupant = self._begin(row, self._rules.first(at_end[None]))
        slot = self._occupants.index(None) if None in self._occupants else len(self._occupants)
        self._occupants[slot : slot + 1] = [occupant]
        self._cache.fill(slot, own, cross)
        self._cache.settle()

    def advance(self) -> list[Row]:
        """Take steps until some row is done; those that are done leave."""
        occupants = self._close_ranks()
        self._take_steps(occupants)
        self._occupants = [None if occupant.done else occupant for occupant in occupants]
        finished = []
        for slot, occupant in enumerate(occupants):
            if occupant.done:
                finished.append(self._end(occupant))
                finished[-1].cross = partial(self._cache.cross_of, slot)
        return finished

    @abstractmethod
    def _begin(self, row: Row, logits: Array) -> Occupant:
        """The occupant for a row, after its first token: scores (1, n_vocab)."""

    @abstractmethod
    def _take_steps(self, occupants: list[Occupant]) -> None:
        """Take steps with all occupants, in slots 0..n-1, until one of them is done."""

    @abstractmethod
    def _end(self, occupant: Occupant) -> Row:
        """The row that a done occupant has become."""

    def _close_ranks(self) -> list[Occupant]:
        """Move the last occupants into empty slots, so that they stand in slots 0..n-1."""
        occupants = self._occupants
        while None in occupants:
            last = occupants.pop()
            if last is not None:
                slot = occupants.index(None)
                self._cache.move(len(occupants), slot)
                occupants[slot] = last
        self._cache.settle()
        return [occupant for occupant in occupants if occupant is not None]

    def _count_step(self, n_live: int) -> None:
        self._meter.count("steps")
        self._meter.count("live_rows", n_live * self._n_beams)
        self._meter.count("rows", self._n_slots * self._n_beams)


class Batch(RunningBatch[Row]):
    """Rows that take the likeliest token each time, or a sampled one."""

    def _begin(self, row: Row, logits: Array) -> Row:
        _record([row], _Step(_choose([row], logits, ahead=0), logits))
        return row

    def _take_steps(self, rows: list[Row]) -> None:
        """Each step is started before the one before it is read, unless the rules must see its tokens."""
        history = self._rules.history([row.tokens or [row.eot] for row in rows])
        step, ahead = self._start_step(rows, history, ahead=0), 0 if self._rules.needs_tokens else 1
        while not any(row.done for row in rows):
            if not ahead:
                _record(rows, step)
            history = self._rules.grown(history, step.tokens)
            following = self._start_step(rows, history, ahead=ahead)
            if ahead:
                _record(rows, step)
            step = following
        _record(rows, step)

    def _end(self, row: Row) -> Row:
        return row

    def _start_step(self, rows: list[Row], history: History, *, ahead: int) -> _Step:
        """Start the step that follows the newest tokens of `history`, of which `ahead` are not yet in the rows."""
        last = self._decoder.positional_embedding.shape[0] - 1
        positions = [min(row.position + ahead, last) for row in rows]  # past the last only in a row that is done
        logits = self._decoder.logits(self._decoder.step(history.newest, positions, self._cache))
        logits = self._rules.next(logits, history, [row.tokens for row in rows])
        step = _Step(_choose(rows, logits, ahead=ahead), logits)
        if not is_on_host(logits):
            mx.async_eval(step.tokens, step.logits)
        self._count_step(len(rows))
        return step


def _choose(rows: list[Row], logits: Array, *, ahead: int) -> Array:
    """The next token of each row: the likeliest, or a sample where the row has a temperature."""
    likeliest = logits.argmax(axis=-1)
    if not any(row.temperature for row in rows):
        return likeliest
    keys = mx.array([[row.key, len(row.tokens) + ahead] for row in rows], dtype=mx.uint32)
    temperatures = mx.array([row.temperature for row in rows])
    scaled = mx.array(logits) / mx.where(temperatures > 0, temperatures, 1)[:, None]
    sampled = mx.vmap(lambda scores, key: mx.random.categorical(scores, key=key))(scaled, keys)
    return like(logits, mx.where(temperatures > 0, sampled, mx.array(likeliest)))


def _record(rows: list[Row], step: _Step) -> None:
    for i, (row, token, logprob) in enumerate(zip(rows, *step.read(), strict=True)):
        if not np.isfinite(logprob) and not row.done and float(step.logits[i].max()) == -np.inf:
            raise nothing_left()
        row.accept(token, float(logprob))


def nothing_left() -> OptionError:
    """For a transcript that can neither go on nor end."""
    return OptionError(
        "The options rule out every token that could come next, the end of the text too. Rule out fewer of them with "
        "suppress_tokens, suppress_numerals or no_repeat_ngram_size."
    )


def run(
    batch: RunningBatch[Any],
    waiting: deque[Row],
    encode: Callable[[Row], list[KeyValue]],
    meter: Meter,
    *,
    refill: bool = True,
) -> Iterator[Row]:
    """Decode the rows that wait in a running batch, yielding each when it is done. More may be added meanwhile.

    Ends when no row waits, or when the next is for another kind of batch. A waiting row enters as soon as a slot is
    free; with `refill` off, only when the whole batch is done. That is slower and yields the same.
    """
    while batch.has_rows or (waiting and batch.fits(waiting[0])):
        entering = refill or not batch.has_rows
        while entering and waiting and batch.fits(waiting[0]) and batch.has_room:
            cross = encode(waiting[0])
            with meter.time("decode tokens"):
                batch.enter(waiting.popleft(), cross)
            del cross  # the batch has a copy, and the next chunk needs room
        with meter.time("decode tokens"):
            finished = batch.advance()
        yield from finished
