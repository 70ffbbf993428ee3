"""Which rows are decoded for a chunk, given what came of the ones before."""

from dataclasses import replace

import numpy as np
import pytest

from whisperx.models.whisper.attempts import Attempts
from whisperx.models.whisper.row import Row
from whisperx.schema import DecodingOptions, DecodingResult
from whisperx.tokenizer import get_tokenizer

TOKENIZER = get_tokenizer(51864)
OPTIONS = DecodingOptions(language="en", temperatures=(0.0,), beam_size=1)
N_TEXT_CTX = 448
VARIED = np.random.default_rng(0).integers(256, 50_000, N_TEXT_CTX).tolist()
REPEATED = TOKENIZER.encode(" and so on") * N_TEXT_CTX


def attempts(options: DecodingOptions = OPTIONS) -> Attempts:
    return Attempts(TOKENIZER, options, N_TEXT_CTX, [np.zeros(16_000, np.float32)])


def decoded(row: Row, tokens: list[int]) -> Row:
    """The row as it is done when the model says so much."""
    for token in [*tokens, row.eot]:
        row.accept(token, -0.1)
    return row


@pytest.mark.parametrize(
    ("tokens", "options", "n_said"),
    [
        pytest.param(VARIED[:100], OPTIONS, [100], id="short"),
        pytest.param(VARIED[:224], OPTIONS, [224, 224], id="no longer than the first attempt may be"),
        pytest.param(VARIED[:300], OPTIONS, [224, 300], id="longer, and all of it comes in a second attempt"),
        pytest.param(VARIED, OPTIONS, [224, 446], id="longer than there is room: sot and no-timestamps take two"),
        pytest.param(REPEATED, OPTIONS, [224], id="a loop"),
        pytest.param(REPEATED, replace(OPTIONS, compression_ratio_threshold=None), [224, 446], id="no loop is known"),
        pytest.param(VARIED, replace(OPTIONS, log_prob_threshold=-0.05), [224], id="of which the model is unsure"),
        pytest.param(VARIED, replace(OPTIONS, no_speech_threshold=-1, log_prob_threshold=0), [224], id="silence"),
        pytest.param(VARIED, replace(OPTIONS, max_new_tokens=50), [50], id="as many as asked for"),
        pytest.param(VARIED, replace(OPTIONS, max_new_tokens=300), [300], id="more than half, as asked for"),
        pytest.param(
            REPEATED, replace(OPTIONS, temperatures=(0.0, 0.5), best_of=1), [224, 224], id="a loop at each temperature"
        ),
    ],
)
def test_a_transcript_gets_half_of_the_context_and_all_of_it_where_it_needs_more(
    tokens: list[int], options: DecodingOptions, n_said: list[int]
) -> None:
    attempts_ = attempts(options)
    outcome: DecodingResult | list[Row] = attempts_.rows(0)
    said = []
    while isinstance(outcome, list):
        (row,) = outcome
        said.append(len(decoded(row, tokens).tokens))
        outcome = attempts_.judge(row)
    assert said == n_said
    assert outcome.tokens in ((), tuple(tokens[: n_said[-1]]))


def test_the_longer_attempt_draws_the_same_random_numbers() -> None:
    attempts_ = attempts(replace(OPTIONS, temperatures=(0.7,), best_of=2))
    rows = attempts_.rows(0)
    assert attempts_.judge(decoded(rows[0], VARIED)) == []
    longer = attempts_.judge(decoded(rows[1], VARIED))
    assert isinstance(longer, list)
    assert [(row.key, row.temperature, row.attempt) for row in longer] == [(row.key, 0.7, 0) for row in rows]
    assert {row.max_new_tokens for row in longer} == {446}
