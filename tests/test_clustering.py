import numpy as np
import pytest

from whisperx.clustering import agglomerate, centroids, cluster

RNG = np.random.default_rng(0)


def around(directions: list[int], spread: float = 0.1, n_dimensions: int = 8) -> np.ndarray:
    """A vector of length 1 near the axis of each number."""
    vectors = np.eye(n_dimensions)[directions] + spread * RNG.standard_normal((len(directions), n_dimensions))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def naive_heights(vectors: np.ndarray, weights: np.ndarray) -> list[float]:
    """Distances of merges by looking at all pairs each time."""
    groups = [[i] for i in range(len(vectors))]
    distances = 1 - vectors @ vectors.T

    def between(a: list[int], b: list[int]) -> float:
        pair_weights = np.outer(weights[a], weights[b])
        return float((pair_weights * distances[np.ix_(a, b)]).sum() / pair_weights.sum())

    heights = []
    while len(groups) > 1:
        pairs = [(between(a, b), i, j) for i, a in enumerate(groups) for j, b in enumerate(groups[:i])]
        height, i, j = min(pairs)
        heights.append(height)
        groups[j] += groups.pop(i)
    return heights


@pytest.mark.parametrize("n", [1, 2, 3, 15])
def test_merges_are_those_of_looking_at_all_pairs(n: int):
    vectors, weights = around(list(RNG.integers(0, 8, n)), 0.5), RNG.uniform(0.5, 3, n)
    np.testing.assert_allclose(agglomerate(vectors, weights).heights, naive_heights(vectors, weights), atol=1e-9)


def test_groups_are_numbered_in_order_of_appearance():
    labels = cluster(around([5, 2, 5, 7, 2]), np.ones(5), max_distance=0.5, min_weight=0)
    assert labels.tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize(
    ("at_least", "at_most", "expected"),
    [(1, None, 3), (3, 3, 3), (2, 2, 2), (1, 1, 1), (5, 5, 5), (4, None, 4), (1, 2, 2), (12, 12, 12), (40, 40, 12)],
)
def test_number_of_groups_is_honoured(at_least: int, at_most: int | None, expected: int):
    vectors = around([0, 1, 2] * 4)
    labels = cluster(vectors, np.ones(12), max_distance=0.5, min_weight=2, at_least=at_least, at_most=at_most)
    assert sorted(set(labels.tolist())) == list(range(expected))


def test_light_group_goes_where_its_members_are_nearest():
    vectors = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0.2, 0.8, 0.566]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = np.array([2, 2, 2, 2, 0.5])
    assert cluster(vectors, weights, max_distance=0.1, min_weight=1).tolist() == [0, 0, 1, 1, 1]


def test_all_light_vectors_are_one_group():
    assert cluster(around([0, 1, 2]), np.full(3, 0.1), max_distance=0.5, min_weight=2).tolist() == [0, 0, 0]


def test_centroid_leans_towards_the_weight():
    (mean,) = centroids(np.eye(2), np.array([3.0, 1.0]), np.array([0, 0]))
    np.testing.assert_allclose(mean, np.array([3, 1]) / np.sqrt(10))


@pytest.mark.parametrize(("max_distance", "expected"), [(0.55, [0, 1]), (0.65, [0, 0])])
def test_groups_closer_than_the_distance_are_one(max_distance: float, expected: list[int]):
    vectors = np.array([[1, 0], [0.4, np.sqrt(1 - 0.4**2)]])  # 0.6 apart
    assert cluster(vectors, np.ones(2), max_distance=max_distance, min_weight=0).tolist() == expected


@pytest.mark.parametrize(("max_distance", "expected"), [(0.01, [0, 1, 0, 1]), (0.5, [0, 1, 0, 0])])
def test_light_vectors_are_merged_as_far_as_the_distance_says(max_distance: float, expected: list[int]):
    # At 35 and 53 degrees: alone, each goes to the heavy one that is nearer; together they are nearer to the first,
    # and both stay there, although the second of them would be nearer to the other.
    degrees = np.radians([0, 90, 35, 53])
    vectors, weights = np.stack([np.cos(degrees), np.sin(degrees)], axis=1), np.array([2, 2, 0.5, 0.5])
    assert cluster(vectors, weights, max_distance=max_distance, min_weight=1.5).tolist() == expected
