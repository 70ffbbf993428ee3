"""Clustering against SciPy."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment

from whisperx.vbx import NOBODY, assign, centroid_linkage

RNG = np.random.default_rng(1)


@pytest.mark.parametrize(("n", "n_dimensions"), [(2, 3), (40, 2), (150, 2), (150, 30)])
def test_centroid_linkage_is_that_of_scipy(n, n_dimensions):
    vectors = RNG.normal(size=(n, n_dimensions)) + 3 * RNG.integers(0, 3, (n, 1))
    tree, expected = centroid_linkage(vectors), linkage(vectors, method="centroid")
    np.testing.assert_allclose(tree.distances, expected[:, 2])
    np.testing.assert_array_equal(tree.merges, expected[:, :2])
    for distance in np.quantile(expected[:, 2], [0, 0.3, 0.7, 0.95, 1]) + 1e-9:
        labels, flat = tree.cut(distance), fcluster(expected, distance, criterion="distance")
        assert len(set(zip(labels.tolist(), flat.tolist(), strict=True))) == len(set(flat.tolist())) == labels.max() + 1


@pytest.mark.parametrize("n_speakers", [1, 2, 3, 8])
def test_assignment_is_that_of_scipy(n_speakers):
    similarity = RNG.uniform(-1, 1, (50, 3, n_speakers))
    found = assign(similarity, np.ones((50, 3), bool), distinct=True)
    for window, of_voices in zip(similarity, found, strict=True):
        expected = np.full(3, NOBODY)
        rows, columns = linear_sum_assignment(window, maximize=True)
        expected[rows] = columns
        np.testing.assert_array_equal(of_voices, expected)
