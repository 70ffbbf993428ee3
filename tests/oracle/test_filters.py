"""Our token rules against openai-whisper's logit filters: equal masks for random histories."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from whisper.decoding import ApplyTimestampRules, SuppressBlank, SuppressTokens
from whisper.tokenizer import get_tokenizer as reference_tokenizer

from whisperx.models.whisper.filters import TokenRules
from whisperx.schema import DecodingOptions
from whisperx.tokenizer import get_tokenizer

OURS, REFERENCE = get_tokenizer(51865), reference_tokenizer(True)
BEGIN = OURS.timestamp_begin

tokens = st.one_of(st.integers(0, OURS.eot - 1), st.integers(BEGIN, BEGIN + 30), st.integers(BEGIN, 51864))


@given(
    st.lists(st.lists(tokens, min_size=0, max_size=12), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.5, 1.0, 30.0]),
    st.floats(-8, 8),
)
def test_all_filters_together_rule_out_the_same_tokens(rows, seed, max_initial_timestamp, lean_to_timestamps):
    length = min(map(len, rows))
    rows = [row[:length] for row in rows]
    scores = np.random.default_rng(seed).normal(0, 3, (len(rows), 51865)).astype(np.float32)
    scores[:, BEGIN:] += np.float32(lean_to_timestamps)

    sot_sequence = list(REFERENCE.sot_sequence)
    suppressed = [*REFERENCE.non_speech_tokens, *OURS.never_sampled_tokens]
    reference = torch.from_numpy(scores.copy())
    history = torch.tensor([sot_sequence + row for row in rows])
    for rule in (
        SuppressBlank(REFERENCE, len(sot_sequence)),
        SuppressTokens(suppressed),
        ApplyTimestampRules(REFERENCE, len(sot_sequence), round(max_initial_timestamp / 0.02)),
    ):
        rule.apply(reference, history)

    options = DecodingOptions(language="en", without_timestamps=False, max_initial_timestamp=max_initial_timestamp)
    rules = TokenRules(OURS, options, scores)
    ours = rules.next(scores, rules.history(rows)) if length else rules.first(scores)
    # The first token of openai-whisper passes the last rule too; there only timestamps are left, so it changes nothing.
    assert np.array_equal(np.isneginf(np.asarray(ours)), np.isneginf(reference.numpy()))
