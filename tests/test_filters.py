"""The rules on the next token, each with its table. Their vocabulary: text 0..4, end of text 5, timestamps 8..15.

Every test runs in NumPy and in MLX, whichever `xp` is.
"""

import sys
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from whisperx.errors import OptionError
from whisperx.models.whisper.attempts import suppressed_tokens
from whisperx.models.whisper.filters import (
    History,
    TimestampRules,
    TokenRules,
    forbid_repeated_ngrams,
    penalize_repetition,
)
from whisperx.schema import DecodingOptions
from whisperx.tokenizer import get_tokenizer, read_tokenizer

EOT, BEGIN, N_VOCAB = 5, 8, 16
TEXT, TIMESTAMPS = set(range(EOT)), set(range(BEGIN, N_VOCAB))
EVERYTHING = set(range(N_VOCAB))
xp: Any = np


@pytest.fixture(params=[np, mx], ids=["numpy", "mlx"], autouse=True)
def library(request, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "xp", request.param)


def history(*rows: list[int]) -> History:
    return History(
        xp.array([row[-1] for row in rows]),
        xp.array([row[-2] if len(row) > 1 else BEGIN for row in rows]),
        xp.array([([0] + [token for token in row if token >= BEGIN])[-1] for row in rows]),
    )


def text_and_others(n_rows: int) -> Any:
    scores = np.zeros((n_rows, N_VOCAB), np.float32)
    scores[:, [0, 6]] = 9
    return xp.array(scores)


def allowed(logits: Any) -> list[set[int]]:
    return [set(np.flatnonzero(np.isfinite(row)).tolist()) for row in np.asarray(logits)]


@pytest.mark.parametrize(
    ("sampled", "expected"),
    [
        ([8], EVERYTHING - TIMESTAMPS),  # the first timestamp counts as a pair: text comes
        ([8, 1], EVERYTHING - {8}),  # in text: text, or a later timestamp
        ([8, 1, 2], EVERYTHING - {8}),
        ([8, 1, 11], {5, 6, 7} | set(range(11, 16))),  # an open pair: eot, the same or a later timestamp; no text
        ([8, 1, 11, 11], EVERYTHING - TIMESTAMPS),  # a complete pair: text
        ([8, 1, 11, 13], EVERYTHING - TIMESTAMPS),
        ([8, 1, 11, 13, 2], EVERYTHING - set(range(8, 14))),  # time has gone on to 13
        ([8, 1, 15], {5, 6, 7, 15}),  # the last timestamp there is
        ([8, 1, 15, 15, 2], EVERYTHING - TIMESTAMPS),
        ([1, 2], EVERYTHING),  # no timestamp yet
    ],
)
def test_timestamps_come_in_pairs_and_never_decrease(sampled, expected):
    rules = TimestampRules(BEGIN, EOT, N_VOCAB, xp.zeros(1))
    logits = text_and_others(1)  # far likelier than timestamps
    assert allowed(rules(logits, history(sampled))) == [expected]


@pytest.mark.parametrize(
    ("timestamp_score", "text_score", "only_timestamps"),
    [(0.0, 5.0, False), (0.0, 2.0, True), (-1.0, 0.9, True), (-1.0, 1.0, False)],  # seven of them: log 7 = 1.95
)
def test_timestamps_win_where_together_they_are_likelier_than_any_text(timestamp_score, text_score, only_timestamps):
    rules = TimestampRules(BEGIN, EOT, N_VOCAB, xp.zeros(1))
    scores = np.full((1, N_VOCAB), -50, np.float32)
    scores[0, BEGIN:], scores[0, 3] = timestamp_score, text_score
    expected = {True: TIMESTAMPS - {8}, False: EVERYTHING - {8}}[only_timestamps]
    if (timestamp_score, text_score) == (0.0, 2.0):
        expected = EVERYTHING - {8}  # 2.0 > 1.95
    assert allowed(rules(xp.array(scores), history([8, 1]))) == [expected]


def test_the_rules_treat_each_row_by_its_own_history():
    rules = TimestampRules(BEGIN, EOT, N_VOCAB, xp.zeros(1))
    rows = [[8], [8, 1, 11], [8, 1, 11, 13, 2]]
    logits = text_and_others(3)
    together = allowed(rules(logits, history(*rows)))
    assert together == [allowed(rules(logits[:1], history(row)))[0] for row in rows]


TOKENIZER = get_tokenizer(51865)
B = TOKENIZER.timestamp_begin


@pytest.mark.parametrize(
    ("options", "ruled_out", "left"),
    [
        ({}, {TOKENIZER.eot, 220, TOKENIZER.sot, TOKENIZER.no_speech, 58}, {50, TOKENIZER.numeral_tokens[0], B}),
        ({"suppress_blank": False}, {TOKENIZER.sot, 58}, {TOKENIZER.eot, 220}),
        ({"suppress_tokens": ()}, {TOKENIZER.sot, TOKENIZER.eot}, {58}),
        ({"suppress_tokens": (50, 51)}, {50, 51}, {52, 58}),
        ({"suppress_numerals": True}, set(TOKENIZER.numeral_tokens), {50}),
        ({"without_timestamps": False}, {50, TOKENIZER.no_timestamps, B + 1}, {B}),
        ({"without_timestamps": False, "max_initial_timestamp": 0.5}, {50, B + 26}, {B, B + 25}),
    ],
)
def test_the_first_token_is_what_the_options_allow(options, ruled_out, left):
    rules = TokenRules(TOKENIZER, DecodingOptions(language="en", **options), xp.zeros(1))
    (possible,) = allowed(rules.first(xp.zeros((1, 51865))))
    assert not possible & ruled_out
    assert left <= possible


def test_later_tokens_may_be_blank_or_the_end():
    rules = TokenRules(TOKENIZER, DecodingOptions(language="en"), xp.zeros(1))
    (possible,) = allowed(rules.next(xp.zeros((1, 51865)), rules.history([[50]])))
    assert {TOKENIZER.eot, 220} <= possible
    assert not possible & {TOKENIZER.sot, 58}


def test_history_grows_as_if_it_were_made_anew():
    rules = TokenRules(TOKENIZER, DecodingOptions(language="en", without_timestamps=False), xp.zeros(1))
    sampled = [[B, 50, B + 7, B + 7, 60], [B, 51, 52, 53, B + 9]]
    grown = rules.history([row[:1] for row in sampled])
    for place in range(1, 5):
        grown = rules.grown(grown, xp.array([row[place] for row in sampled]))
        fresh = rules.history([row[: place + 1] for row in sampled])
        assert all(np.array_equal(a, b) for a, b in zip(grown, fresh, strict=True))


def test_repeated_tokens_become_less_likely_whatever_their_sign():
    logits = xp.array([[2.0, -2.0, 1.0, 0.0], [2.0, -2.0, 1.0, 0.0]])
    assert penalize_repetition(logits, [[0, 1, 0], [3]], 2.0).tolist() == [[1, -4, 1, 0], [2, -2, 1, 0]]


@pytest.mark.parametrize(
    ("size", "sampled", "ruled_out"),
    [
        (1, [1, 2], {1, 2}),
        (2, [1, 2, 3, 1], {2}),
        (2, [1, 2, 1, 3, 1], {2, 3}),
        (3, [1, 2, 3, 1, 2], {3}),
        (3, [1, 2, 3, 2, 1], set()),
        (3, [1, 2], set()),
        (2, [], set()),
    ],
)
def test_no_ngram_stands_twice(size, sampled, ruled_out):
    (possible,) = allowed(forbid_repeated_ngrams(xp.zeros((1, 6)), [sampled], size))
    assert possible == set(range(6)) - ruled_out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suppress_tokens": (99999,)}, "99999 is no token"),
        ({"suppress_tokens": (-2,)}, "-2 is no token"),
    ],
)
def test_a_token_out_of_the_vocabulary_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        TokenRules(TOKENIZER, DecodingOptions(language="en", **options), xp.zeros(1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", "summarize"),
        ("max_initial_timestamp", -1.0),
        ("repetition_penalty", 0.0),
        ("no_repeat_ngram_size", -1),
        ("max_new_tokens", 0),
        ("temperatures", ()),
        ("temperatures", (0.0, -0.2)),
        ("best_of", 0),
    ],
)
def test_an_option_out_of_its_range_is_refused_with_the_value(name, value):
    with pytest.raises(OptionError, match=rf"^{name} is .*, not "):
        DecodingOptions(**{name: value})


def test_what_the_model_suppresses_is_added_to_the_list_of_minus_one(tmp_path):
    settings = {"suppress_tokens": [1000, 99999, "x", None], "begin_suppress_tokens": [2000]}
    tokenizer = read_tokenizer(tmp_path, 51865, settings)
    assert (tokenizer.suppressed, tokenizer.suppressed_first) == ((1000,), (2000,))
    plain = get_tokenizer(51865)
    for suppress_tokens, added in (((-1,), {1000}), ((5,), set()), ((), set())):
        options = DecodingOptions(suppress_tokens=suppress_tokens)
        assert suppressed_tokens(tokenizer, options) - suppressed_tokens(plain, options) == added
    for suppress_blank in (True, False):
        rules = TokenRules(tokenizer, DecodingOptions(suppress_blank=suppress_blank), xp.zeros(1))
        scores = np.asarray(rules.first(xp.zeros((1, 51865)))[0])
        assert (scores[2000] == -np.inf) == suppress_blank
        assert np.asarray(rules.next(xp.zeros((1, 51865)), rules.history([[7]])))[0, 2000] == 0


@pytest.mark.parametrize("settings", [None, {}, {"suppress_tokens": None}, {"suppress_tokens": "1 2"}])
def test_a_model_that_suppresses_nothing_has_the_plain_list(settings, tmp_path):
    assert read_tokenizer(tmp_path, 51865, settings) == get_tokenizer(51865)
