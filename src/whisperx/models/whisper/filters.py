"""Rules on the scores of the next token, applied on the device before one is chosen.

A rule sees the scores (n, n_vocab) of n rows, and of each row what `History` keeps of its past. It never looks from one
row to another.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from whisperx.models.ops import Array, library, like, logsumexp
from whisperx.models.whisper.attempts import suppressed_tokens
from whisperx.schema import DecodingOptions
from whisperx.tokenizer import SECONDS_PER_TIMESTAMP, Tokenizer

_RULED_OUT = -np.inf


class History(NamedTuple):
    """What the rules need to know of the tokens sampled so far, int32 (n,) each."""

    newest: Array
    before: Array  # the token before the newest; a timestamp where there is none
    last_timestamp: Array  # id of the last timestamp, 0 where there is none


class TokenRules:
    """Which tokens a transcript may begin with and go on with, for one vocabulary and one set of options.

    parameter : of the network that the scores come from; the rules compute where it lies

    Raises OptionError for an option out of its range.
    """

    def __init__(self, tokenizer: Tokenizer, options: DecodingOptions, parameter: Array) -> None:
        self._parameter = parameter
        n_vocab = tokenizer.encoding.n_vocab
        suppressed = suppressed_tokens(tokenizer, options)
        blank = {tokenizer.eot, *tokenizer.encode(" "), *tokenizer.suppressed_first}
        first = suppressed | (blank if options.suppress_blank else set())
        self.timestamps = None
        if not options.without_timestamps:
            self.timestamps = TimestampRules(tokenizer.timestamp_begin, tokenizer.eot, n_vocab, parameter)
            suppressed = suppressed | {tokenizer.no_timestamps}
            first = first | suppressed | self._not_initial(tokenizer, options)
        self._first = like(parameter, _mask(n_vocab, first))
        self._next = like(parameter, _mask(n_vocab, suppressed))
        self._repetition_penalty = options.repetition_penalty
        self._no_repeat_ngram_size = options.no_repeat_ngram_size
        self.no_speech = tokenizer.no_speech

    @property
    def needs_tokens(self) -> bool:
        """Whether `next` must see all tokens of each row, and so wait for them."""
        return self._repetition_penalty != 1 or self._no_repeat_ngram_size > 0

    def first(self, logits: Array) -> Array:
        """Scores of the first token of a transcript; what is ruled out is -inf."""
        return logits + self._first

    def next(self, logits: Array, history: History, tokens: Sequence[Sequence[int]] | None = None) -> Array:
        """Scores of a later token. `tokens`, all those sampled so far, is needed where `needs_tokens` says so."""
        if tokens is not None and self._repetition_penalty != 1:
            logits = penalize_repetition(logits, tokens, self._repetition_penalty)
        if tokens is not None and self._no_repeat_ngram_size:
            logits = forbid_repeated_ngrams(logits, tokens, self._no_repeat_ngram_size)
        logits = logits + self._next
        return logits if self.timestamps is None else self.timestamps(logits, history)

    def history(self, tokens: Sequence[Sequence[int]]) -> History:
        """The history of rows with these tokens, at least one each."""
        newest = like(self._parameter, [row[-1] for row in tokens])
        if self.timestamps is None:
            return History(newest, newest, newest)  # nobody looks at the rest
        begin = self.timestamps.begin
        before = [row[-2] if len(row) > 1 else begin for row in tokens]
        last_timestamp = [next((token for token in reversed(row) if token >= begin), 0) for row in tokens]
        return History(newest, like(self._parameter, before), like(self._parameter, last_timestamp))

    def grown(self, history: History, newest: Array) -> History:
        """The history after one more token of each row."""
        xp = library(newest)
        newest = newest.astype(xp.int32)
        last_timestamp = history.last_timestamp
        if self.timestamps is not None:
            last_timestamp = xp.where(newest >= self.timestamps.begin, newest, last_timestamp)
        return History(newest, history.newest, last_timestamp)

    @staticmethod
    def _not_initial(tokenizer: Tokenizer, options: DecodingOptions) -> set[int]:
        """A transcript with timestamps begins with one, and with none after `max_initial_timestamp`."""
        latest = tokenizer.timestamp_begin + round(options.max_initial_timestamp / SECONDS_PER_TIMESTAMP)
        return {*range(tokenizer.timestamp_begin), *range(latest + 1, tokenizer.encoding.n_vocab)}


class TimestampRules:
    """How timestamps may follow each other and the text, as in openai/whisper's ApplyTimestampRules.

    They come in pairs, end and start; they never decrease; after a complete pair comes text, after a lone one text may
    not follow; and where all timestamps together are likelier than any text token, a timestamp it is.
    """

    def __init__(self, begin: int, eot: int, n_vocab: int, parameter: Array) -> None:
        self.begin = begin
        ids = np.arange(n_vocab)
        self._ids = like(parameter, ids)
        self._is_timestamp = like(parameter, ids >= begin)
        self._is_text = like(parameter, ids < eot)
        self._is_no_timestamp = like(parameter, ids < begin)

    def __call__(self, logits: Array, history: History) -> Array:
        xp = library(logits)
        newest_is = (history.newest >= self.begin)[:, None]
        before_is = (history.before >= self.begin)[:, None]
        pair_is_open = newest_is & ~before_is
        # An open pair may close with the time it began with; else time moves on.
        last = history.last_timestamp[:, None]
        earliest = xp.where(last > 0, last + xp.where(pair_is_open, 0, 1), self.begin)
        ruled_out = (
            (newest_is & before_is & self._is_timestamp)
            | (pair_is_open & self._is_text)
            | (self._is_timestamp & (self._ids < earliest))
        )
        logits = xp.where(ruled_out, _RULED_OUT, logits)
        # Normalising would subtract the same number from both sides.
        timestamps = logsumexp(logits[:, self.begin :])
        text = logits[:, : self.begin].max(axis=-1)
        return xp.where((timestamps > text)[:, None] & self._is_no_timestamp, _RULED_OUT, logits)


def penalize_repetition(logits: Array, tokens: Sequence[Sequence[int]], penalty: float) -> Array:
    """Make tokens that a row has already less likely: positive scores divided by `penalty`, negative ones multiplied.

    Keskar et al. 2019, https://arxiv.org/abs/1909.05858, in the form that CTranslate2 and transformers share.
    """
    repeated = np.zeros(logits.shape, np.bool_)
    for row, sampled in enumerate(tokens):
        repeated[row, list(sampled)] = True
    where = library(logits).where
    return where(like(logits, repeated), where(logits > 0, logits / penalty, logits * penalty), logits)


def forbid_repeated_ngrams(logits: Array, tokens: Sequence[Sequence[int]], size: int) -> Array:
    """Rule out each token that would make `size` tokens in a row stand twice in the same transcript."""
    repeats = np.zeros(logits.shape, np.bool_)
    for row, sampled in enumerate(tokens):
        tail = list(sampled[len(sampled) - size + 1 :]) if size > 1 else []
        for start in range(len(sampled) - size + 1):
            if list(sampled[start : start + size - 1]) == tail:
                repeats[row, sampled[start + size - 1]] = True
    return library(logits).where(like(logits, repeats), _RULED_OUT, logits)


def _mask(n_vocab: int, ruled_out: set[int]) -> npt.NDArray[np.float32]:
    mask = np.zeros(n_vocab, np.float32)
    mask[sorted(ruled_out)] = _RULED_OUT
    return mask
