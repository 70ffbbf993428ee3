from itertools import permutations

import numpy as np
import pytest

from whisperx.vbx import NOBODY, Agglomerative, Plda, VBx, assign, centroid_linkage, k_means

RNG = np.random.default_rng(3)


def voices(sizes: list[int], n_dimensions: int = 16, spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around orthogonal directions, shuffled, and whose they are."""
    speakers = RNG.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return 3 * np.eye(n_dimensions)[speakers] + RNG.normal(0, spread, (len(speakers), n_dimensions)), speakers


def is_same_grouping(labels: np.ndarray, others: np.ndarray) -> bool:
    pairs = set(zip(labels.tolist(), others.tolist(), strict=True))
    return len(pairs) == len(set(labels.tolist())) == len(set(others.tolist()))


def plda(n_dimensions: int = 16) -> Plda:
    xvec = {"mean1": np.zeros(n_dimensions), "lda": np.eye(n_dimensions), "mean2": np.zeros(n_dimensions)}
    variances = np.linspace(20, 10, n_dimensions)
    return Plda.of(xvec, {"mu": np.zeros(n_dimensions), "tr": 5 * np.eye(n_dimensions), "psi": variances})


def test_nearest_centroids_are_merged_first():
    points = np.array([[0.0, 0], [1, 0], [5, 0], [5, 2], [20, 0]])
    tree = centroid_linkage(points)
    assert tree.merges.tolist() == [[0, 1], [2, 3], [5, 6], [4, 7]]
    np.testing.assert_allclose(tree.distances, [1, 2, np.hypot(4.5, 1), np.hypot(20 - 2.75, 0.5)])
    assert tree.cut(0.5).tolist() == [0, 1, 2, 3, 4]
    assert tree.cut(1.5).tolist() == [0, 0, 1, 2, 3]
    assert tree.cut(9).tolist() == [0, 0, 0, 0, 1]
    assert tree.labels_after(1).tolist() == [0, 0, 1, 2, 3]


def test_a_group_whose_parts_were_further_apart_is_not_made_by_a_late_near_merge():
    triangle = np.array([[0.0, 0], [1, 0], [0.5, 0.9]])  # the third is 0.9 from the middle of the first two
    tree = centroid_linkage(triangle)
    np.testing.assert_allclose(tree.distances, [1, 0.9])
    assert tree.cut(0.95).tolist() == [0, 1, 2]
    assert tree.cut(1).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("fewest", "most", "n_speakers"), [(1, None, 3), (1, 2, 2), (4, None, 4), (2, 2, 2), (3, 3, 3), (1, 1, 1)]
)
def test_agglomerative_finds_speakers_and_keeps_to_their_number(fewest, most, n_speakers):
    vectors, speakers = voices([30, 20, 14])
    labels = Agglomerative(min_size=3)(vectors, fewest, most)
    assert len(set(labels.tolist())) == n_speakers
    if n_speakers == 3:
        assert is_same_grouping(labels, speakers)


def test_small_group_goes_to_the_most_similar_speaker():
    vectors, speakers = voices([40, 40])
    stray = 3 * np.eye(16)[5] + 1.5 * np.eye(16)[speakers[0]]
    labels = Agglomerative()(np.vstack([vectors, stray]), 1, None)
    assert is_same_grouping(labels[:-1], speakers)
    assert labels[-1] == labels[0]


def test_voice_alone_and_no_voice_at_all():
    for n in (0, 1):
        assert Agglomerative()(np.ones((n, 16)), 1, None).tolist() == [0] * n
        assert VBx(plda())(np.ones((n, 16)), 1, None)[0].tolist() == [[1]] * n


def test_speakers_vary_by_the_same_in_all_directions_after_the_plda():
    transform, psi = RNG.normal(size=(16, 16)), np.linspace(1, 9, 16)
    xvec = {"mean1": RNG.normal(size=20), "lda": RNG.normal(size=(20, 16)), "mean2": RNG.normal(size=16)}
    fitted = Plda.of(xvec, {"mu": RNG.normal(size=16), "tr": transform, "psi": psi})
    within = np.linalg.inv(transform.T @ transform)
    between = np.linalg.inv((transform.T / psi) @ transform)
    np.testing.assert_allclose(fitted.transform @ within @ fitted.transform.T, np.eye(16), atol=1e-8)
    np.testing.assert_allclose(fitted.transform @ between @ fitted.transform.T, np.diag(psi[::-1]), atol=1e-7)
    np.testing.assert_allclose(fitted.between, psi[::-1])
    assert fitted(RNG.normal(size=(7, 20))).shape == (7, 16)


def test_vbx_joins_groups_that_one_speaker_explains():
    vectors, speakers = voices([60, 50], spread=0.3)
    groups = 2 * speakers + RNG.integers(0, 2, len(speakers))  # each speaker in two halves
    clustering = VBx(plda())
    shares = clustering.responsibilities(clustering.plda(vectors), groups)
    assert is_same_grouping(shares.argmax(axis=1), speakers)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("fewest", "most", "n_speakers"), [(1, None, 3), (1, 2, 2), (5, None, 5), (4, 4, 4)])
def test_vbx_keeps_to_the_number_of_speakers(fewest, most, n_speakers):
    vectors, speakers = voices([30, 20, 25])
    shares, is_free = VBx(plda())(vectors, fewest, most)
    assert is_free == (n_speakers == 3)
    assert shares.shape == (75, n_speakers)
    if n_speakers == 3:
        assert is_same_grouping(shares.argmax(axis=1), speakers)


def test_k_means_finds_groups_and_always_the_same():
    vectors, speakers = voices([30, 20, 25])
    assert is_same_grouping(k_means(vectors, 3), speakers)
    assert k_means(vectors, 7).tolist() == k_means(vectors, 7).tolist()
    assert sorted(k_means(np.ones((3, 2)), 3).tolist()) == [0, 0, 0], "equal voices cannot be told apart"


@pytest.mark.parametrize(("n_local", "n_speakers"), [(3, 2), (3, 3), (3, 5), (2, 1), (1, 4)])
def test_distinct_speakers_match_best(n_local, n_speakers):
    similarity = RNG.uniform(-1, 1, (40, n_local, n_speakers))
    found = assign(similarity, np.ones((40, n_local), bool), distinct=True)
    for window, of_voices in zip(similarity, found, strict=True):
        taken = of_voices[of_voices != NOBODY]
        assert len(set(taken.tolist())) == len(taken) == min(n_local, n_speakers)
        total = sum(window[voice, speaker] for voice, speaker in enumerate(of_voices) if speaker != NOBODY)
        padded = np.pad(window, ((0, 0), (0, max(0, n_local - n_speakers))))
        best = max(padded[np.arange(n_local), list(p)].sum() for p in permutations(range(padded.shape[1]), n_local))
        assert total == pytest.approx(best)


def test_who_is_silent_is_nobody_and_takes_no_speaker_from_another():
    similarity = np.array([[[0.9, 0.1], [0.8, 0.7], [0.99, 0.98]]])
    is_active = np.array([[True, True, False]])
    assert assign(similarity, is_active, distinct=True).tolist() == [[0, 1, NOBODY]]
    assert assign(similarity, is_active, distinct=False).tolist() == [[0, 0, NOBODY]]
    assert assign(np.full((1, 2, 2), np.nan), np.ones((1, 2), bool), distinct=True).shape == (1, 2)
