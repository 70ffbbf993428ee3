"""Our Whisper against openai-whisper and transformers, on the same random weights."""

import mlx.core as mx
import numpy as np
import pytest
import torch
from random_whisper import SMALL_DIMS, checkpoint, random_arrays, random_mel, random_tokens
from references import openai_whisper, transformers_whisper

from whisperx.checkpoints import WhisperDimensions
from whisperx.models.whisper.loading import build_whisper

# fmt: off
DIMS = SMALL_DIMS | {
    "tiny at full length": WhisperDimensions(80, 1500, 128, 2, 2, 51865, 448, 128, 2, 2),
    "large-v3 at full length": WhisperDimensions(128, 1500, 128, 2, 1, 51866, 448, 128, 2, 1),
}
# fmt: on


def ours(dims: WhisperDimensions, seed: int, tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    model = build_whisper(checkpoint(dims, random_arrays(dims, seed)), dtype=mx.float32)
    features = model.encoder(mx.array(random_mel(dims, seed).T))
    hidden, _ = model.decoder.prefill(tokens, model.decoder.cross_key_value(features))
    return np.asarray(features[0]), np.asarray(model.decoder.logits(hidden))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dims", DIMS.values(), ids=DIMS)
def test_logits_equal_those_of_openai_whisper(dims, seed):
    tokens = random_tokens(dims, 4 + 13 * seed, seed)
    reference = openai_whisper(dims, random_arrays(dims, seed))
    with torch.no_grad():
        features = reference.encoder(torch.from_numpy(random_mel(dims, seed))[None])
        logits = reference.decoder(torch.tensor([tokens]), features)
    our_features, our_logits = ours(dims, seed, tokens)
    np.testing.assert_allclose(our_features, features[0].numpy(), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(our_logits, logits[0].numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("dims", DIMS.values(), ids=DIMS)
def test_logits_equal_those_of_transformers(dims, seed):
    tokens = random_tokens(dims, 9, seed)
    reference = transformers_whisper(dims, random_arrays(dims, seed))
    with torch.no_grad():
        logits = reference(
            input_features=torch.from_numpy(random_mel(dims, seed))[None], decoder_input_ids=torch.tensor([tokens])
        ).logits
    np.testing.assert_allclose(ours(dims, seed, tokens)[1], logits[0].numpy(), atol=1e-4, rtol=1e-4)
