"""The promise: the same bytes whatever the batch size, the order of the chunks and their neighbours."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from random_whisper import EncodesOnce, random_speech, write_talker

from whisperx.backends.mlx import MlxBackend
from whisperx.models.blas import blas_in_use
from whisperx.models.whisper.decoding import run
from whisperx.models.whisper.loading import build_whisper
from whisperx.schema import DecodingOptions, DecodingResult, Meter

N_CHUNKS = 20
BATCH_SIZES = (1, 2, 3, 5, 8, 16)
GREEDY = DecodingOptions(language="en", max_new_tokens=20, temperatures=(0.0,), beam_size=1)
# What else decides over tokens. The random network fails most checks, so that it goes through the temperatures.
MODES = {
    "timestamps": replace(GREEDY, without_timestamps=False, max_initial_timestamp=1.0),
    "fallback": replace(GREEDY, max_new_tokens=12, temperatures=(0.0, 0.4, 1.0), best_of=2, log_prob_threshold=-1.3),
    "penalties": replace(GREEDY, repetition_penalty=1.3, no_repeat_ngram_size=2),
    "beams": replace(GREEDY, beam_size=5, max_new_tokens=12),
    "patient beams with timestamps": replace(
        GREEDY, beam_size=2, patience=2.0, max_new_tokens=12, without_timestamps=False, max_initial_timestamp=1.0
    ),
    "beams with penalties, then fallback": replace(
        GREEDY,
        beam_size=3,
        max_new_tokens=12,
        repetition_penalty=1.3,
        no_repeat_ngram_size=2,
        temperatures=(0.0, 1.0),
        best_of=2,
        log_prob_threshold=-1.3,
    ),
    "prompts": replace(GREEDY, initial_prompt="Once upon a time", hotwords="Metal", prefix="And"),
}


@pytest.fixture(scope="module")
def talker(tmp_path_factory) -> Path:
    return write_talker(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module", params=["host", "mlx"])
def backend(talker, request) -> MlxBackend:
    """On a CPU, where float32 is computed on the host, what a GPU does, too."""
    if request.param == "mlx":
        with mock.patch("whisperx.backends.mlx.build_whisper", partial(build_whisper, on_host=False)):
            return EncodesOnce(talker)
    return EncodesOnce(talker)


@pytest.fixture(scope="module")
def chunks() -> list[np.ndarray]:
    return [random_speech(1.5 + 1.4 * seed, seed) for seed in range(N_CHUNKS)]


def decode(
    backend: MlxBackend, chunks: Sequence[np.ndarray], batch_size: int, options: DecodingOptions = GREEDY
) -> list[DecodingResult]:
    return backend.decode(chunks, options, batch_size=batch_size, on_result=lambda *_: None, meter=Meter())


@pytest.fixture(scope="module")
def one_by_one(backend, chunks) -> list[DecodingResult]:
    return decode(backend, chunks, 1)


def test_the_chunks_differ_enough_to_tell_them_apart(one_by_one):
    assert len({result.tokens for result in one_by_one}) >= 5
    assert len({len(result.tokens) for result in one_by_one}) >= 3
    assert len({result.avg_logprob for result in one_by_one}) == N_CHUNKS


@pytest.mark.parametrize("batch_size", BATCH_SIZES[1:])
def test_results_are_identical_for_every_batch_size(backend, chunks, one_by_one, batch_size):
    assert decode(backend, chunks, batch_size) == one_by_one


@pytest.mark.parametrize("mode", MODES)
def test_results_are_identical_in_every_mode(backend, chunks, mode):
    alone = decode(backend, chunks[:6], 1, MODES[mode])
    assert len({result.tokens for result in alone}) > 1
    for batch_size in (3, 6):
        assert decode(backend, chunks[:6], batch_size, MODES[mode]) == alone
    assert decode(backend, chunks[5::-1], 4, MODES[mode]) == alone[::-1]


def test_a_chunk_is_encoded_once_whatever_comes_of_its_attempts(talker, chunks, monkeypatch):
    backend, encoded = MlxBackend(talker), []
    encode = backend._model.encode
    monkeypatch.setattr(backend._model, "encode", lambda mel: encoded.append(mel) or encode(mel))
    monkeypatch.setattr("whisperx.backends.mlx._MOST_KEPT", 2)
    options = replace(MODES["fallback"], max_new_tokens=2, log_prob_threshold=0.0, no_speech_threshold=None)
    results = decode(backend, chunks[:2], 2, options)
    assert [result.temperature for result in results] == [1.0, 1.0]
    assert len(encoded) == 2
    decode(backend, chunks[:3], 3, options)
    assert len(encoded) == 2 + 2 + 3  # but for those that would take too much memory to keep


def test_a_chunk_that_falls_back_leaves_the_good_ones_as_they_are(backend, chunks, one_by_one):
    threshold = float(np.median([result.avg_logprob for result in one_by_one]))
    options = replace(
        GREEDY,
        temperatures=(0.0, 1.0),
        best_of=2,
        log_prob_threshold=threshold,
        compression_ratio_threshold=None,
        no_speech_threshold=None,
    )
    results = decode(backend, chunks, 5, options)
    good = [index for index, result in enumerate(one_by_one) if result.avg_logprob >= threshold]
    assert 5 <= len(good) <= 15
    for index, result in enumerate(results):
        assert (result == one_by_one[index]) == (index in good)
        assert result.temperature == (0.0 if index in good else 1.0)


def test_another_seed_samples_another_text(backend, chunks):
    options = replace(GREEDY, max_new_tokens=12, temperatures=(1.0,), best_of=1)
    first, again, other = (decode(backend, chunks[:3], 3, replace(options, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert [result.tokens for result in first] != [result.tokens for result in other]


def test_results_are_identical_without_refill(backend, chunks, one_by_one, monkeypatch):
    monkeypatch.setattr("whisperx.backends.mlx.run", partial(run, refill=False))
    assert decode(backend, chunks[:9], 5) == one_by_one[:9]


@pytest.mark.parametrize("seed", [1, 2])
def test_results_do_not_depend_on_the_order_of_the_chunks(backend, chunks, one_by_one, seed):
    order = np.random.default_rng(seed).permutation(N_CHUNKS)
    results = decode(backend, [chunks[i] for i in order], 8)
    assert results == [one_by_one[i] for i in order]


def test_results_do_not_depend_on_the_neighbours(backend, chunks, one_by_one):
    loud = [random_speech(30, 100 + seed) * 3 for seed in range(3)]
    mixed = [loud[0], chunks[3], loud[1], np.zeros(16000, np.float32), chunks[7], loud[2]]
    results = decode(backend, mixed, 6)
    assert (results[1], results[4]) == (one_by_one[3], one_by_one[7])


def test_a_batch_larger_than_a_tile_of_rows_is_identical_too(backend, chunks, one_by_one):
    assert decode(backend, chunks, N_CHUNKS) == one_by_one


def test_results_are_identical_without_mkl_too(talker):
    script = """
import json, sys
from pathlib import Path
from random_whisper import random_speech
from test_batch_invariance import decode
from whisperx.backends.mlx import MlxBackend
from whisperx.models.blas import blas_in_use
from whisperx.models.whisper.loading import build_whisper
backend = MlxBackend(Path(sys.argv[1]), device="cpu")
chunks = [random_speech(2 + seed, seed) for seed in range(4)]
results = [[(r.tokens, r.avg_logprob) for r in decode(backend, chunks, n)] for n in (1, 4)]
print(json.dumps([blas_in_use(), results]))
"""
    output = subprocess.run(
        [sys.executable, "-c", script, str(talker)],
        env=os.environ | {"WHISPERX_MKL": "0", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    blas, (alone, together) = json.loads(output)
    assert "MKL" not in blas
    assert alone == together


@pytest.mark.skipif("MKL" not in blas_in_use(), reason="needs a BLAS whose kernels depend on the number of rows")
def test_rows_that_follow_the_batch_would_change_the_numbers():
    """What the fixed tiles are for: where a product has as many rows as the batch, a neighbour changes the numbers.

    MKL in its usual mode shows it; here it runs in a strict one, which alone would do on this processor.
    """
    script = """
import whisperx.models  # first: it loads the BLAS
import mlx.core as mx
import numpy as np
from random_whisper import TALKER, checkpoint, random_arrays
from whisperx.models.whisper.loading import build_whisper
from whisperx.models.whisper.model import KVCache

rng = np.random.default_rng(5)
cross = [tuple(rng.standard_normal((1, 1, 1500, 64), np.float32) for _ in range(2)) for _ in range(2)]

def logits(rows_per_tile, n_rows):
    model = build_whisper(checkpoint(TALKER, random_arrays(TALKER)), dtype=mx.float32, rows_per_tile=rows_per_tile)
    _, own = model.decoder.prefill([1] * 16, cross)
    cache = KVCache.allocate(TALKER, n_rows, model.dtype)
    for slot in range(n_rows):
        cache.fill(slot, own, cross)
    hidden = model.decoder.step(mx.array([7] * n_rows), [16] * n_rows, cache)
    return np.asarray(model.decoder.logits(hidden))[0]

print(np.array_equal(logits(16, 1), logits(16, 5)), np.array_equal(logits(1, 1), logits(5, 5)))
"""
    output = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"MKL_CBWR": "AUTO", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.split() == ["True", "False"]
