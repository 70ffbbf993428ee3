"""Beam search: of each chunk the likeliest few beginnings go on side by side, so that a poor first word can be undone.

The bookkeeping is openai/whisper's (`BeamSearchDecoder`), chunk by chunk. The beams of a chunk lie on the query axis of
both attentions: they share one copy of the audio's keys and values, and what they have said is never copied when one
beam overtakes another (`Lineage`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from whisperx.models.ops import Array, is_on_host
from whisperx.models.whisper.decoding import RunningBatch, logprobs_on_host, nothing_left
from whisperx.models.whisper.filters import TokenRules
from whisperx.models.whisper.model import BeamKeys, Whisper
from whisperx.models.whisper.row import Row
from whisperx.schema import DecodingOptions, Meter

Candidates: TypeAlias = Sequence[tuple[int, float]]  # what may follow a beam: tokens and log-probabilities, best first


@dataclass(frozen=True)
class Hypothesis:
    """A transcript of a chunk, or the beginning of one."""

    tokens: tuple[int, ...]  # without the end of text
    sum_logprob: float  # of the tokens, and of the end of text once that has come

    def score(self, length_penalty: float) -> float:
        """sum_logprob / length ** length_penalty, as CTranslate2 ranks: 1 compares means, less favours short texts.

        openai/whisper divides by the length unless told otherwise, and then by ((5 + length) / 6) ** length_penalty
        (Wu et al. 2016, https://arxiv.org/abs/1609.08144).
        """
        return self.sum_logprob / float(max(len(self.tokens), 1) ** length_penalty)


class Lineage:
    """Which keys in a chunk's slot belong to the past of each beam, own (n_beams, capacity).

    The prompt's come first; then each step adds one for each beam. They stay where they are: a beam that goes on from
    another sees what that one saw.
    """

    def __init__(self, n_beams: int, n_prompt: int, capacity: int) -> None:
        self.place = n_prompt  # of the next step's first key
        self.seen = np.zeros((n_beams, capacity), np.bool_)
        self.seen[:, :n_prompt] = True
        self._mark_new()

    def inherit(self, parents: Sequence[int]) -> None:
        """After a step: beam i goes on from beam `parents[i]`."""
        self.seen = self.seen[list(parents)]
        self.place += len(parents)
        self._mark_new()

    def _mark_new(self) -> None:
        beams = np.arange(len(self.seen))
        self.seen[beams, self.place + beams] = True


class Search:
    """The beams of one chunk.

    Up to `beam_size` hypotheses are alive, all of the same length. The search is over when beam_size * patience have
    ended, or when the alive ones are as long as they may be.
    """

    def __init__(self, row: Row, beam_size: int, patience: float) -> None:
        self.row = row
        self.alive = [Hypothesis((), 0.0)]  # likeliest first
        self.ended: list[Hypothesis] = []
        self.parents = [0]  # of each alive one, its place among those before the last step
        self._beam_size = beam_size
        self._n_wanted = round(beam_size * patience)

    @property
    def done(self) -> bool:
        if len(self.ended) >= self._n_wanted or not self.alive:
            return True
        return len(self.alive[0].tokens) == self.row.max_new_tokens

    def extend(self, candidates: Sequence[Candidates]) -> None:
        """One more token: of all candidates of the alive hypotheses the likeliest `beam_size` go on.

        Those that end, and are likelier than the last of them, have ended. Of equal ones the first beam's come first.
        """
        extensions = [
            (hypothesis.sum_logprob + logprob, parent, token)
            for parent, hypothesis in enumerate(self.alive)
            for token, logprob in candidates[parent]
        ]
        extensions.sort(key=lambda extension: -extension[0])
        alive: list[Hypothesis] = []
        parents: list[int] = []
        for sum_logprob, parent, token in extensions:
            tokens = self.alive[parent].tokens
            if token != self.row.eot:
                alive.append(Hypothesis((*tokens, token), sum_logprob))
                parents.append(parent)
            elif len(self.ended) < self._n_wanted:
                self.ended.append(Hypothesis(tokens, sum_logprob))
            if len(alive) == self._beam_size:
                break
        if not alive and not self.ended:
            raise nothing_left()
        self.alive, self.parents = alive, parents

    def best(self, length_penalty: float) -> Hypothesis:
        """The best of those that have ended, and of the likeliest alive ones where fewer than `beam_size` have."""
        n_missing = max(self._beam_size - len(self.ended), 0)
        return max(self.ended + self.alive[:n_missing], key=lambda hypothesis: hypothesis.score(length_penalty))


@dataclass(frozen=True)
class _Beams:
    """A search in a slot of the cache, where all beams are computed, alive or not."""

    search: Search
    lineage: Lineage
    n_beams: int

    @property
    def done(self) -> bool:
        return self.search.done

    @property
    def position(self) -> int:
        return len(self.search.row.prompt) + len(self.search.alive[0].tokens) - 1

    def rows(self) -> list[tuple[int, ...]]:
        """The tokens of each beam; the first stands in for those that are missing."""
        alive = self.search.alive
        return [(alive[i] if i < len(alive) else alive[0]).tokens for i in range(self.n_beams)]

    def extend(self, candidates: Sequence[Candidates]) -> None:
        self.search.extend(candidates)
        if not self.done:
            parents = self.search.parents
            self.lineage.inherit(parents + parents[:1] * (self.n_beams - len(parents)))


class BeamBatch(RunningBatch[_Beams]):
    """A running batch that decodes each row by beam search; its temperature is 0."""

    def __init__(self, model: Whisper, rules: TokenRules, n_slots: int, meter: Meter, options: DecodingOptions) -> None:
        super().__init__(model, rules, n_slots, meter, n_beams=options.beam_size)
        self._options = options

    def _begin(self, row: Row, logits: Array) -> _Beams:
        search = Search(row, self._n_beams, self._options.patience)
        search.extend(likeliest(logits, self._n_beams + 1))
        return _Beams(search, Lineage(self._n_beams, len(row.prompt), self._cache.capacity), self._n_beams)

    def _take_steps(self, occupants: list[_Beams]) -> None:
        while not any(beams.done for beams in occupants):
            self._take_step(occupants)

    def _take_step(self, occupants: list[_Beams]) -> None:
        rows = [tokens for beams in occupants for tokens in beams.rows()]
        history = self._rules.history(rows)
        keys = BeamKeys(
            [beams.lineage.place for beams in occupants], np.stack([beams.lineage.seen for beams in occupants])
        )
        positions = [beams.position for beams in occupants]
        hidden = self._decoder.step(history.newest, positions, self._cache, keys)
        logits = self._rules.next(self._decoder.logits(hidden), history, rows)
        self._count_step(len(occupants))

        candidates = likeliest(logits, self._n_beams + 1)
        for i, beams in enumerate(occupants):
            beams.extend(candidates[i * self._n_beams : (i + 1) * self._n_beams])

    def _end(self, beams: _Beams) -> Row:
        row, best = beams.search.row, beams.search.best(self._options.length_penalty)
        row.tokens, row.sum_logprob, row.done = list(best.tokens), best.sum_logprob, True
        return row


def likeliest(logits: Array, n: int) -> list[Candidates]:
    """The n likeliest tokens of each row of scores (n_rows, n_vocab), without those that are ruled out.

    Of equal ones the lower id comes first.
    """
    if is_on_host(logits):
        return [_likeliest_on_host(scores, n) for scores in logits]
    return _likeliest_on_device(logits, n)


def _likeliest_on_host(scores: npt.NDArray[np.float32], n: int) -> Candidates:
    """Sorts few scores only: at least n are as high as the n-th highest of the maxima of some blocks."""
    n_blocks = max(n, 256)
    maxima = scores[: len(scores) // n_blocks * n_blocks].reshape(-1, n_blocks).max(axis=0)
    bound = max(np.partition(maxima, -n)[-n], np.finfo(np.float32).min)
    tokens = np.flatnonzero(scores >= bound)
    tokens = tokens[np.argsort(-scores[tokens], kind="stable")[:n]]
    return list(zip(tokens.tolist(), logprobs_on_host(scores, tokens).tolist(), strict=True))


def _likeliest_on_device(logits: mx.array, n: int) -> list[Candidates]:
    left, tokens, scores = logits, [], []
    for _ in range(n):
        tokens.append(mx.argmax(left, axis=-1, keepdims=True))
        scores.append(mx.take_along_axis(left, tokens[-1], axis=-1))
        left = mx.put_along_axis(left, tokens[-1], mx.array(-np.inf), axis=-1)
    logprobs = mx.concatenate(scores, axis=-1) - mx.logsumexp(logits, axis=-1, keepdims=True)
    found = np.asarray(mx.concatenate(tokens, axis=-1)).tolist(), np.asarray(logprobs).tolist()
    return [
        [(token, logprob) for token, logprob in zip(*row, strict=True) if logprob > -np.inf]
        for row in zip(*found, strict=True)
    ]
