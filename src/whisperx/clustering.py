"""Vectors -> groups: agglomerative clustering by cosine, with average linkage, in NumPy.

Two groups are as far apart as their members are on average, each member counting by its weight (UPGMA). The pair that
is closest is merged, again and again; how far to go is decided afterwards, by a distance and by how many groups there
may be. The nearest-neighbour chain (Murtagh 1983) finds the merges in O(n^2) time; 2000 vectors take about a second.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Labels: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dendrogram:
    """All merges of n vectors, the closest first: merge m joins the groups of vectors `pairs[m]` at `heights[m]`."""

    pairs: Labels  # (n - 1, 2)
    heights: FloatArray  # (n - 1,), rising

    def labels(self, n_groups: int) -> Labels:
        """Which of `n_groups` each vector is in, numbered from 0 in order of first appearance: int64 `(n,)`."""
        parents = np.arange(len(self.pairs) + 1)
        for a, b in self.pairs[: len(parents) - n_groups].tolist():
            parents[_root(parents, a)] = _root(parents, b)
        roots = [_root(parents, i) for i in range(len(parents))]
        numbers: dict[int, int] = {}
        return np.array([numbers.setdefault(root, len(numbers)) for root in roots], np.int64)

    def count_large(self, weights: FloatArray, min_weight: float) -> Labels:
        """How many groups of at least `min_weight` there are: int64 `(n,)`, entry i with i + 1 groups in all."""
        parents, totals = np.arange(len(weights)), weights.tolist()
        counts = [sum(total >= min_weight for total in totals)]
        for a, b in self.pairs.tolist():
            gone, kept = _root(parents, a), _root(parents, b)
            parents[gone] = kept
            before = (totals[gone] >= min_weight) + (totals[kept] >= min_weight)
            totals[kept] += totals[gone]
            counts.append(counts[-1] - before + (totals[kept] >= min_weight))
        return np.array(counts[::-1], np.int64)


def agglomerate(vectors: FloatArray, weights: FloatArray) -> Dendrogram:
    """Merges of vectors `(n, n_dimensions)` of length 1, n at least 1, by 1 - cosine; all weights more than 0.

    The same vectors in the same order always give the same merges.
    """
    n = len(vectors)
    distances = 1 - vectors.astype(np.float64) @ vectors.astype(np.float64).T
    np.fill_diagonal(distances, np.inf)
    sizes = weights.astype(np.float64)
    pairs = np.empty((n - 1, 2), np.int64)
    heights = np.empty(n - 1)
    chain: list[int] = []
    rest = set(range(n))
    for merge in range(n - 1):
        if not chain:
            chain.append(min(rest))
        while True:
            row = distances[chain[-1]]
            nearest = int(np.argmin(row))
            if len(chain) > 1 and row[chain[-2]] <= row[nearest]:
                break
            chain.append(nearest)
        gone, kept = chain.pop(), chain.pop()
        pairs[merge], heights[merge] = (gone, kept), distances[gone, kept]
        share = sizes[gone] / (sizes[gone] + sizes[kept])
        distances[kept] = share * distances[gone] + (1 - share) * distances[kept]
        distances[:, kept] = distances[kept]
        distances[kept, kept] = np.inf
        distances[gone] = distances[:, gone] = np.inf
        sizes[kept] += sizes[gone]
        rest.remove(gone)
    order = np.argsort(heights, kind="stable")
    return Dendrogram(pairs[order], heights[order])


def cluster(
    vectors: FloatArray,
    weights: FloatArray,
    *,
    max_distance: float,
    min_weight: float,
    at_least: int = 1,
    at_most: int | None = None,
) -> Labels:
    """Groups of vectors `(n, n_dimensions)` of length 1: int64 `(n,)`, numbered from 0 without gaps.

    max_distance : groups farther apart than this, 1 - cosine, stay apart, unless there would be too many
    min_weight : a group with less weight than this is no group of its own: its members go where they are nearest. It
        is lowered as far as it must be to find `at_least` groups.
    at_least, at_most : how many groups there may be; never more than there are vectors
    """
    n = len(vectors)
    dendrogram = agglomerate(vectors, weights)
    n_by_distance = n - int(np.searchsorted(dendrogram.heights, max_distance, side="right"))
    at_least = min(at_least, n)
    at_most = n if at_most is None else max(min(at_most, n), 1)
    while True:
        n_large = dendrogram.count_large(weights, min_weight)
        wanted = min(max(int(n_large[n_by_distance - 1]), at_least), at_most)
        cuts = np.flatnonzero(n_large == wanted) + 1
        if len(cuts):
            labels = dendrogram.labels(int(cuts[np.abs(cuts - n_by_distance).argmin()]))
            large = np.flatnonzero(np.bincount(labels, weights) >= min_weight)
            return _join_small(vectors, weights, labels, large)
        # With no least weight there is a cut for each number of groups.
        min_weight = min_weight / 2 if min_weight > weights.min() else 0.0


def centroids(vectors: FloatArray, weights: FloatArray, labels: Labels) -> FloatArray:
    """The direction of each group: float `(n_groups, n_dimensions)`, of length 1."""
    sums = np.zeros((labels.max() + 1, vectors.shape[1]))
    np.add.at(sums, labels, vectors * weights[:, None])
    means: FloatArray = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return means


def _join_small(vectors: FloatArray, weights: FloatArray, labels: Labels, large: Labels) -> Labels:
    """Members of groups that are not `large` go to the nearest one that is."""
    nearest = (vectors @ centroids(vectors, weights, labels)[large].T).argmax(axis=1)
    position = np.searchsorted(large, labels)
    is_large = np.isin(labels, large)
    joined = np.where(is_large, position, nearest)
    return joined.astype(np.int64)


def _root(parents: npt.NDArray[np.int64], i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = int(parents[i])
    return i
