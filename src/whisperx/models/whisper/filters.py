"""Rules on the scores of the next token, applied on the device before one is chosen."""

import mlx.core as mx
import numpy as np

from whisperx.schema import DecodingOptions
from whisperx.tokenizer import Tokenizer


class TokenRules:
    """Which tokens a transcript may begin with and go on with, for one vocabulary and one set of options."""

    def __init__(self, tokenizer: Tokenizer, options: DecodingOptions) -> None:
        self.no_speech = tokenizer.no_speech
        suppressed = set(tokenizer.never_sampled_tokens)
        for token in options.suppress_tokens:
            suppressed.update(tokenizer.non_speech_tokens if token == -1 else [token])
        if options.suppress_numerals:
            suppressed.update(tokenizer.numeral_tokens)
        blank = {tokenizer.eot, *tokenizer.encode(" ")} if options.suppress_blank else set()
        self._suppress = _mask(tokenizer.encoding.n_vocab, suppressed)
        self._suppress_first = _mask(tokenizer.encoding.n_vocab, suppressed | blank)

    def first(self, logits: mx.array) -> mx.array:
        """Scores (n, n_vocab) of the first token of a transcript; what is ruled out is -inf."""
        return logits + self._suppress_first

    def next(self, logits: mx.array) -> mx.array:
        """Scores (n, n_vocab) of a later token."""
        return logits + self._suppress


def _mask(n_vocab: int, suppressed: set[int]) -> mx.array:
    mask = np.zeros(n_vocab, np.float32)
    mask[sorted(suppressed)] = -np.inf
    return mx.array(mask)
