"""The speaker encoder computes pieces side by side; what is said of one is said of it alone."""

import numpy as np
import pytest

from whisperx.models.blas import loaded_mkl
from whisperx.models.speaker_encoder import load_speaker_encoder

LENGTHS = (250, 120, 1, 33, 600, 2, 250)


@pytest.fixture(scope="module")
def pieces():
    rng = np.random.default_rng(0)
    return [rng.normal(-5, 3, (length, 80)).astype(np.float32) for length in LENGTHS]


def test_a_piece_has_the_same_embedding_alone_and_beside_others(pieces):
    together = load_speaker_encoder()(pieces)
    alone = np.concatenate([load_speaker_encoder()([piece]) for piece in pieces])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)
    if loaded_mkl() is not None:
        assert together.tobytes() == alone.tobytes()


def test_a_piece_that_is_no_numbers_has_no_embedding_and_spoils_no_others(pieces):
    broken = np.full((100, 80), np.nan, np.float32)
    embeddings = load_speaker_encoder()([pieces[0], broken, pieces[1]])
    assert np.isnan(embeddings[1]).all()
    np.testing.assert_array_equal(embeddings[[0, 2]], load_speaker_encoder()(pieces[:2]))


def test_no_pieces_have_no_embeddings():
    assert load_speaker_encoder()([]).shape == (0, 192)
