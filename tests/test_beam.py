"""Beam search: its bookkeeping on made-up scores, and on a network against going through each text at once."""

import itertools
import math
from collections import deque

import mlx.core as mx
import numpy as np
import pytest
from random_whisper import SMALL_DIMS, checkpoint, random_arrays, random_mel, random_tokens

from whisperx.errors import OptionError
from whisperx.models.ops import Array
from whisperx.models.whisper import beam
from whisperx.models.whisper.beam import BeamBatch, Hypothesis, Lineage, Search
from whisperx.models.whisper.decoding import Batch, RunningBatch, run
from whisperx.models.whisper.filters import History
from whisperx.models.whisper.loading import build_whisper
from whisperx.models.whisper.model import BeamKeys, KeyValue, KVCache, Whisper
from whisperx.models.whisper.row import Row
from whisperx.schema import DecodingOptions, Meter

EOT = 9


def row(max_new_tokens: int = 10) -> Row:
    return Row(0, (0,), 0, EOT, max_new_tokens)


def candidates(**probabilities: float) -> list[tuple[int, float]]:
    """Best first, by token: candidates(_1=0.6, end=0.4)."""
    tokens = {EOT if name == "end" else int(name[1:]): math.log(p) for name, p in probabilities.items()}
    return sorted(tokens.items(), key=lambda item: -item[1])


def alive(search: Search) -> list[tuple[tuple[int, ...], float]]:
    return [(hypothesis.tokens, round(math.exp(hypothesis.sum_logprob), 6)) for hypothesis in search.alive]


def ended(search: Search) -> list[tuple[tuple[int, ...], float]]:
    return [(hypothesis.tokens, round(math.exp(hypothesis.sum_logprob), 6)) for hypothesis in search.ended]


def test_the_likeliest_of_all_extensions_go_on_and_know_their_parents():
    search = Search(row(), beam_size=2, patience=1.0)
    search.extend([candidates(_1=0.5, _2=0.4, _3=0.1)])
    assert alive(search) == [((1,), 0.5), ((2,), 0.4)]
    search.extend([candidates(_1=0.4, _2=0.3, _3=0.3), candidates(_1=0.9, _2=0.06, _3=0.04)])
    assert alive(search) == [((2, 1), 0.36), ((1, 1), 0.2)]
    assert search.parents == [1, 0]


def test_a_beam_undoes_a_first_word_that_leads_nowhere():
    search = Search(row(), beam_size=2, patience=1.0)
    search.extend([candidates(_1=0.6, _2=0.4)])
    search.extend([candidates(_3=0.3, _4=0.25, end=0.05), candidates(_5=0.9, end=0.1)])
    search.extend([candidates(end=1.0), candidates(end=1.0)])
    assert search.best(1.0).tokens == (2, 5)


def test_only_ends_likelier_than_the_last_that_goes_on_count():
    search = Search(row(), beam_size=2, patience=5.0)
    search.extend([candidates(_1=0.6, _2=0.4)])
    search.extend([candidates(end=0.5, _1=0.4, _2=0.1), candidates(_1=0.8, _2=0.15, end=0.05)])
    assert ended(search) == [((1,), 0.3)]
    assert alive(search) == [((2, 1), 0.32), ((1, 1), 0.24)]


@pytest.mark.parametrize(("patience", "steps"), [(0.5, 1), (1.0, 1), (1.5, 2), (2.0, 2), (3.0, 3)])
def test_the_search_is_over_when_beam_size_times_patience_have_ended(patience, steps):
    search = Search(row(), beam_size=2, patience=patience)
    search.extend([candidates(_1=0.6, _2=0.4)])
    n_steps = 0
    while not search.done:
        search.extend([candidates(end=0.9, _1=0.06, _2=0.04)] * 2)
        n_steps += 1
    assert n_steps == steps
    assert len(search.ended) == round(2 * patience)


def test_a_text_that_is_long_enough_is_taken_unended_where_too_few_have_ended():
    search = Search(row(max_new_tokens=2), beam_size=2, patience=1.0)
    search.extend([candidates(_1=0.6, _2=0.4)])
    search.extend([candidates(end=0.1, _1=0.5, _2=0.4), candidates(_1=0.99, _2=0.01)])
    assert search.done
    assert ended(search) == []
    assert search.best(1.0) == Hypothesis((2, 1), pytest.approx(math.log(0.4 * 0.99)))


def test_an_unended_text_is_left_out_where_enough_have_ended():
    search = Search(row(), beam_size=1, patience=1.0)
    search.extend([candidates(_1=0.6, _2=0.4)])
    search.extend([candidates(end=0.6, _1=0.4)])
    assert search.best(1.0).tokens == (1,)


@pytest.mark.parametrize(("length_penalty", "tokens"), [(0.0, (1,)), (1.0, (2, 3)), (2.0, (2, 3, 4))])
def test_the_length_penalty_decides_between_short_and_long_texts(length_penalty, tokens):
    search = Search(row(), beam_size=3, patience=1.0)
    search.ended = [Hypothesis((1,), -1.0), Hypothesis((2, 3), -1.6), Hypothesis((2, 3, 4), -2.7)]
    assert search.best(length_penalty).tokens == tokens


def test_an_empty_text_counts_as_one_token():
    assert Hypothesis((), -2.0).score(1.0) == -2.0


def test_of_equal_extensions_those_of_the_first_beam_go_on():
    search = Search(row(), beam_size=2, patience=1.0)
    search.extend([candidates(_1=0.5, _2=0.5)])
    search.extend([[(3, -1.0), (4, -1.0)], [(3, -1.0), (4, -1.0)]])
    assert [hypothesis.tokens for hypothesis in search.alive] == [(1, 3), (1, 4)]


def test_a_search_goes_on_with_fewer_beams_where_the_rules_leave_fewer_tokens():
    search = Search(row(), beam_size=3, patience=1.0)
    search.extend([candidates(_1=1.0)])
    assert (alive(search), search.done) == ([((1,), 1.0)], False)
    search.extend([candidates(_1=0.5, _2=0.3, _3=0.2)])
    assert len(search.alive) == 3


def test_a_search_of_which_nothing_is_left_is_over():
    search = Search(row(), beam_size=3, patience=1.0)
    search.extend([candidates(_1=1.0)])
    search.extend([candidates(end=1.0)])
    assert search.done
    assert search.best(1.0).tokens == (1,)


def test_a_wide_beam_finds_the_best_text_of_all():
    """Texts of up to 4 words over a chain with known probabilities, all of them gone through."""
    rng = np.random.default_rng(0)
    chain = np.log(rng.dirichlet(np.full(4, 0.5), size=4))  # the next word, or EOT in the last place, given a word
    tokens = [0, 1, 2, EOT]

    def score(text: tuple[int, ...]) -> float:
        return sum(chain[a, tokens.index(b)] for a, b in itertools.pairwise((0, *text, EOT)))

    texts = [text for n in range(1, 4) for text in itertools.product(range(3), repeat=n)]
    search = Search(row(max_new_tokens=4), beam_size=200, patience=1.0)
    search.extend([[(word, chain[0, word]) for word in range(3)]])  # nothing may end at once
    while not search.done:
        search.extend([list(zip(tokens, chain[hypothesis.tokens[-1]], strict=True)) for hypothesis in search.alive])
    best = max(texts, key=lambda text: score(text) / len(text))
    found = max((hypothesis for hypothesis in search.ended), key=lambda hypothesis: hypothesis.score(1.0))
    assert found == Hypothesis(best, pytest.approx(score(best)))


def test_a_beam_sees_the_prompt_its_ancestors_and_its_own_new_token():
    lineage = Lineage(n_beams=3, n_prompt=2, capacity=20)
    lineage.inherit([2, 0, 0])
    lineage.inherit([1, 1, 2])
    assert lineage.place == 8
    assert [np.flatnonzero(seen).tolist() for seen in lineage.seen] == [
        [0, 1, 2, 6, 8],  # from beam 1, which came from beam 0
        [0, 1, 2, 6, 9],
        [0, 1, 2, 7, 10],
    ]


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    scores = np.random.default_rng(0).standard_normal((5, 51865)).astype(np.float32)
    scores[1, :50364] = -np.inf  # only timestamps are left
    scores[2] = np.round(scores[2] / 2)  # many equals at the top
    scores[3, 1:] = -np.inf
    scores[4, -1] = 9  # in no block
    return scores


@pytest.mark.parametrize("where", ["host", "device"])
@pytest.mark.parametrize("n", [2, 6])
def test_the_likeliest_tokens_are_those_of_sorting_all(scores, where, n):
    likeliest = {
        "host": lambda: [beam._likeliest_on_host(row, n) for row in scores],
        "device": lambda: beam._likeliest_on_device(mx.array(scores), n),
    }[where]()
    for row, found in zip(scores, likeliest, strict=True):
        logprobs = row - np.logaddexp.reduce(row.astype(np.float64))
        expected = [token for token in np.lexsort((np.arange(len(row)), -row))[:n] if row[token] > -np.inf]
        assert [token for token, _ in found] == expected
        np.testing.assert_allclose([logprob for _, logprob in found], logprobs[expected], atol=1e-3)


@pytest.fixture(scope="module", params=[False, True], ids=["mlx", "host"])
def model(request) -> Whisper:
    dims = SMALL_DIMS["tiny"]
    return build_whisper(checkpoint(dims, random_arrays(dims)), dtype=mx.float32, on_host=request.param)


@pytest.fixture(scope="module")
def crosses(model) -> list[list[KeyValue]]:
    return [model.decoder.cross_key_value(model.encoder(mx.array(random_mel(model.dims, i).T))) for i in range(3)]


def test_beams_that_overtake_each_other_equal_one_pass_over_each_text(model, crosses):
    """Two chunks of three beams, to the end of the text context: 57 steps, in windows of every length."""
    decoder, n_beams = model.decoder, 3
    prompts = [random_tokens(model.dims, n, seed=n) for n in (4, 7)]
    cache = KVCache.allocate(model.dims, 2, model.dtype, n_beams=n_beams)
    for slot, (prompt, cross) in enumerate(zip(prompts, crosses[:2], strict=True)):
        cache.fill(slot, decoder.prefill(prompt, cross)[1], cross)

    rng = np.random.default_rng(3)
    texts = [[list(prompt) for _ in range(n_beams)] for prompt in prompts]
    lineages = [Lineage(n_beams, len(prompt), cache.capacity) for prompt in prompts]
    for step in range(57):
        for beams in texts:
            for text in beams:
                text.append(int(rng.integers(model.dims.n_vocab)))
        keys = BeamKeys([lineage.place for lineage in lineages], np.stack([lineage.seen for lineage in lineages]))
        newest = mx.array([text[-1] for beams in texts for text in beams])
        hidden = decoder.step(newest, [len(beams[0]) - 1 for beams in texts], cache, keys)
        if step in (0, 20, 40, 56):
            for i, (beams, cross) in enumerate(zip(texts, crosses[:2], strict=True)):
                for j, text in enumerate(beams):
                    alone, _ = decoder.prefill(text, cross)
                    np.testing.assert_allclose(hidden[i * n_beams + j], alone[-1], atol=1e-4, rtol=1e-4)
        for i, lineage in enumerate(lineages):
            parents = rng.integers(n_beams, size=n_beams).tolist()
            lineage.inherit(parents)
            texts[i] = [list(texts[i][parent]) for parent in parents]


class NoRules:
    """Everything may come; token 0 ends, and 1 stands for silence."""

    needs_tokens = False
    no_speech = 1

    def first(self, logits: Array) -> Array:
        return logits

    def next(self, logits: Array, history: History, tokens: object = None) -> Array:
        return logits

    def history(self, tokens: list[list[int]]) -> History:
        return self.grown(None, np.array([row[-1] for row in tokens]))

    def grown(self, history: History | None, newest: Array) -> History:
        return History(newest, newest, newest)


ENDLESS = -1  # no token ends a text


def decode(batch: RunningBatch, crosses: list[list[KeyValue]], prompt: tuple[int, ...], n_beams: int, eot: int = 0):
    room = SMALL_DIMS["tiny"].n_text_ctx - len(prompt)
    rows = deque(Row(chunk, prompt, prompt[0], eot, room, n_beams=n_beams) for chunk in range(len(crosses)))
    return sorted(run(batch, rows, lambda row: crosses[row.chunk], Meter()), key=lambda row: row.chunk)


def test_one_beam_is_the_likeliest_token_each_time(model, crosses):
    batch = BeamBatch(model, NoRules(), 2, Meter(), DecodingOptions(beam_size=1))
    searched = decode(batch, crosses, (5, 6), 1)
    greedy = decode(Batch(model, NoRules(), 2, Meter()), crosses, (5, 6), 1)
    assert len({tuple(row.tokens) for row in greedy}) > 1
    for ours, theirs in zip(searched, greedy, strict=True):
        assert ours.tokens == theirs.tokens
        assert ours.sum_logprob == pytest.approx(theirs.sum_logprob)
        assert ours.no_speech_prob == theirs.no_speech_prob


def test_a_text_without_end_fills_the_text_context(model, crosses):
    batch = BeamBatch(model, NoRules(), 2, Meter(), DecodingOptions(beam_size=4))
    searched = decode(batch, crosses, (5, 6, 7), 4, ENDLESS)
    assert {len(row.tokens) for row in searched} == {model.dims.n_text_ctx - 3}


def test_a_batch_leaves_rows_of_another_kind_waiting(model, crosses):
    rows = deque(Row(i, (5, 6), 5, 0, 4, n_beams=n_beams) for i, n_beams in enumerate((2, 2, 1)))
    batch = BeamBatch(model, NoRules(), 1, Meter(), DecodingOptions(beam_size=2))
    assert [row.chunk for row in run(batch, rows, lambda row: crosses[row.chunk], Meter())] == [0, 1]
    assert [row.chunk for row in rows] == [2]


@pytest.mark.parametrize(
    "bad",
    [
        {"beam_size": 0},
        {"patience": 0.0},
        {"patience": float("nan")},
        {"beam_size": 2, "patience": 0.2},
        {"length_penalty": float("inf")},
    ],
)
def test_a_beam_that_cannot_be_is_refused(bad):
    with pytest.raises(OptionError, match=f"{list(bad)[-1]} is .*, not {list(bad.values())[-1]}"):
        DecodingOptions(**bad)
