from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from random_whisper import SMALL_DIMS, checkpoint, random_arrays, random_mel, random_tokens

from whisperx.checkpoints import WhisperDimensions
from whisperx.models.ops import embedding, linear, tiled
from whisperx.models.whisper.loading import build_whisper
from whisperx.models.whisper.model import KVCache, Whisper

GOLDENS = Path(__file__).parent / "goldens" / "whisper.npz"


@pytest.fixture(scope="module", params=[(name, on_host) for name in SMALL_DIMS for on_host in (False, True)])
def case(request) -> tuple[str, WhisperDimensions, Whisper]:
    name, on_host = request.param
    dims = SMALL_DIMS[name]
    return name, dims, build_whisper(checkpoint(dims, random_arrays(dims)), dtype=mx.float32, on_host=on_host)


def test_features_and_logits_equal_the_reference(case):
    name, dims, model = case
    features = model.encoder(mx.array(random_mel(dims).T))
    hidden, _ = model.decoder.prefill(random_tokens(dims, 20), model.decoder.cross_key_value(features))
    with np.load(GOLDENS) as goldens:
        np.testing.assert_allclose(features[0], goldens[f"{name}.features"], atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(model.decoder.logits(hidden), goldens[f"{name}.logits"], atol=1e-4, rtol=1e-4)


def test_steps_with_the_cache_equal_one_pass_without(case):
    _, dims, model = case
    decoder, tokens = model.decoder, random_tokens(dims, 60)
    cross = decoder.cross_key_value(model.encoder(mx.array(random_mel(dims).T)))
    whole, _ = decoder.prefill(tokens, cross)

    hidden, own = decoder.prefill(tokens[:5], cross)
    cache = KVCache.allocate(dims, 3, model.dtype)
    cache.fill(0, own, cross)
    rows = [hidden]
    for position in range(5, 60):
        rows.append(decoder.step(mx.array([tokens[position]]), [position], cache))
    np.testing.assert_allclose(np.concatenate(rows), whole, atol=1e-4, rtol=1e-4)


def test_rows_at_different_positions_do_not_mix(case):
    _, dims, model = case
    decoder = model.decoder
    mels = [random_mel(dims, seed) for seed in range(3)]
    prompts = [random_tokens(dims, n, seed=n) for n in (3, 17, 50)]
    crosses = [decoder.cross_key_value(model.encoder(mx.array(mel.T))) for mel in mels]

    cache = KVCache.allocate(dims, 3, model.dtype)
    for slot, (prompt, cross) in enumerate(zip(prompts, crosses, strict=True)):
        cache.fill(slot, decoder.prefill(prompt, cross)[1], cross)
    together = decoder.step(mx.array([7, 8, 9]), [3, 17, 50], cache)

    for row, (prompt, cross) in enumerate(zip(prompts, crosses, strict=True)):
        alone, _ = decoder.prefill([*prompt, 7 + row], cross)
        np.testing.assert_allclose(together[row], alone[-1], atol=1e-4, rtol=1e-4)


def test_a_moved_row_goes_on_as_before(case):
    _, dims, model = case
    decoder, prompt = model.decoder, random_tokens(dims, 4)
    cross = decoder.cross_key_value(model.encoder(mx.array(random_mel(dims).T)))
    hidden = []
    for slot in (0, 2):
        cache = KVCache.allocate(dims, 3, model.dtype)
        cache.fill(slot, decoder.prefill(prompt, cross)[1], cross)
        cache.move(slot, 0)
        hidden.append(decoder.step(mx.array([5]), [4], cache))
    assert np.array_equal(*hidden)


@pytest.mark.parametrize("stored_as", [np.float16, np.float32])
def test_token_embeddings_are_looked_up_in_the_type_of_the_checkpoint(stored_as):
    dims = SMALL_DIMS["tiny"]
    arrays = {name: array.astype(stored_as) for name, array in random_arrays(dims).items()}
    layer = build_whisper(checkpoint(dims, arrays), dtype=mx.float32, on_host=True).decoder.token_embedding
    weights = arrays["decoder.token_embedding.weight"]
    assert layer.weight.dtype == stored_as
    looked_up = embedding(layer, [5, 0])
    assert looked_up.dtype == np.float32
    assert np.array_equal(looked_up, weights[[5, 0]])
    hidden = np.ones((2, dims.n_text_state), np.float32)
    np.testing.assert_allclose(
        linear(layer, hidden, 4)[0], weights.astype(np.float32).sum(axis=1), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("n_rows", [1, 4, 5, 8, 9])
def test_a_tiled_layer_sees_whole_tiles_only(n_rows):
    seen = []

    def layer(x: mx.array) -> mx.array:
        seen.append(x.shape)
        return 2 * x

    x = mx.random.normal((n_rows, 1, 3))
    assert np.array_equal(tiled(layer, x, 4), 2 * x)
    assert set(seen) == {(4, 3)}
