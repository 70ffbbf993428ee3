"""Voices -> speakers, as the pipelines of pyannote.audio do it: agglomerative clustering, and VBx above it.

speaker-diarization-3.1 joins voices by the distance of their centroids and drops small groups. speaker-diarization-
community-1 starts there and lets VBx (Landini et al. 2022, https://arxiv.org/abs/2012.14952) decide how many speakers
are needed to explain the voices, in the space of a PLDA that was trained to tell speakers apart.

A voice is a vector for somebody in a window. Arrays of voices are `(n, n_dimensions)`, and labels count from 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Labels: TypeAlias = npt.NDArray[np.int64]

NOBODY = -1


@dataclass(frozen=True)
class Agglomerative:
    """The clustering of speaker-diarization-3.1, with its numbers."""

    max_distance: float = 0.7045654963945799  # between centroids of groups that become one
    min_size: int = 12  # a smaller group goes to the nearest larger one; with few voices, a tenth of them is enough

    def __call__(self, vectors: FloatArray, fewest: int, most: int | None) -> Labels:
        """Labels for voices, `(n,)`, of `fewest` to `most` speakers if there are so many voices. Where no distance
        gives so many groups of some size, they are found by k-means."""
        if len(vectors) < 2 or most == 1:
            return np.zeros(len(vectors), np.int64)
        min_size = min(self.min_size, max(1, round(0.1 * len(vectors))))
        tree = centroid_linkage(_normed(vectors))
        labels = tree.cut(self.max_distance)
        n_large = int(np.sum(np.bincount(labels) >= min_size))
        target = min(max(n_large, fewest), most or len(vectors), len(vectors))
        if target != n_large:
            labels = tree.labels_after(self._n_merges(tree, target, min_size))
        labels = _small_to_large(vectors, labels, min_size)
        return labels if labels.max() + 1 == max(target, 1) else k_means(_normed(vectors), max(target, 1))

    def _n_merges(self, tree: "Tree", target: int, min_size: int) -> int:
        """After how many merges there are `target` groups of some size, or nearly so many; of several such moments, the
        one when groups are joined at nearly `max_distance`."""
        sizes = dict.fromkeys(range(tree.n), 1)
        n_large, best = tree.n if min_size == 1 else 0, (tree.n, np.inf, 0)
        for merge, (a, b) in enumerate(tree.merges.tolist()):
            size_a, size_b = sizes.pop(a), sizes.pop(b)
            sizes[tree.n + merge] = size_a + size_b
            n_large += (size_a + size_b >= min_size) - (size_a >= min_size) - (size_b >= min_size)
            distance = abs(float(tree.distances[merge]) - self.max_distance)
            best = min(best, (abs(n_large - target), distance, merge + 1))
        if min_size == 1:
            best = min(best, (abs(tree.n - target), np.inf, 0))
        return best[2]


@dataclass(frozen=True)
class Plda:
    """Vectors -> a space in which voices of one speaker vary equally in all directions.

    The tensors are those of `xvec_transform.npz` (mean1, mean2, lda) and `plda.npz` (mu, tr, psi).
    """

    mean_in: FloatArray  # (n_in,)
    lda: FloatArray  # (n_in, n)
    mean_lda: FloatArray  # (n,)
    mean: FloatArray  # (n,)
    transform: FloatArray  # (n, n)
    between: FloatArray  # (n,): how much speakers vary in each direction, where voices of one vary by 1; largest first

    @classmethod
    def of(cls, xvec: Mapping[str, FloatArray], plda: Mapping[str, FloatArray]) -> "Plda":
        """Raises KeyError for a missing array, ValueError or LinAlgError for those that do not fit together."""
        tr, psi = plda["tr"].astype(np.float64), plda["psi"].astype(np.float64)
        within = np.linalg.inv(tr.T @ tr)
        between = np.linalg.inv((tr.T / psi) @ tr)
        # Directions that make `within` the identity and `between` diagonal: eigenvectors by way of a Cholesky factor.
        root = np.linalg.inv(np.linalg.cholesky(within))
        variances, directions = np.linalg.eigh(root @ between @ root.T)
        transform = (directions.T @ root)[::-1]
        return cls(xvec["mean1"], xvec["lda"], xvec["mean2"], plda["mu"], transform, variances[::-1])

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Voices `(n, n_in)` -> `(n, n_out)`."""
        n_in, n_out = self.lda.shape
        reduced = np.sqrt(n_in) * _normed(vectors - self.mean_in) @ self.lda - self.mean_lda
        projected: FloatArray = (np.sqrt(n_out) * _normed(reduced) - self.mean) @ self.transform.T
        return projected


@dataclass(frozen=True)
class VBx:
    """The clustering of speaker-diarization-community-1, with its numbers."""

    plda: Plda
    max_distance: float = 0.6  # between centroids of the groups that it starts from
    fa: float = 0.07  # how much a voice counts: windows overlap, so they are not independent
    fb: float = 0.8  # how much a speaker costs: more finds fewer
    n_iterations: int = 20
    smoothing: float = 7.0  # of the groups that it starts from

    def __call__(self, vectors: FloatArray, fewest: int, most: int | None) -> tuple[FloatArray, bool]:
        """How much of each voice is whose: float64 `(n, n_speakers)`, rows sum to at most 1; and whether it was free.

        As many speakers as VBx needs. Where that is less than `fewest` or more than `most`, it was not free, and so
        many are found by k-means, if there are so many voices.
        """
        if len(vectors) < 2:
            return np.ones((len(vectors), 1)), True
        groups = centroid_linkage(_normed(vectors)).cut(self.max_distance)
        shares = self.responsibilities(self.plda(vectors), groups)
        target = min(max(shares.shape[1], fewest), most or len(vectors), len(vectors))
        if target == shares.shape[1]:
            return shares, True
        labels = k_means(_normed(vectors), target)
        return np.eye(labels.max() + 1)[labels], False

    def responsibilities(self, features: FloatArray, groups: Labels) -> FloatArray:
        """`(n, n_speakers)` of those speakers that are needed, from features in the space of the PLDA.

        Each speaker is a Gaussian whose mean has a prior; voices are shared out among them, and speakers estimated from
        their shares, in turns. Equations (16), (17), (23) and (25) of the paper, without its hidden Markov model.
        """
        rho = features * np.sqrt(self.plda.between)
        constant = -0.5 * (np.sum(features**2, axis=1, keepdims=True) + features.shape[1] * np.log(2 * np.pi))
        start = self.smoothing * np.eye(groups.max() + 1)[groups]
        shares = np.exp(start - _log_sum_exp(start))
        prior = np.full(shares.shape[1], 1 / shares.shape[1])
        ratio, bound = self.fa / self.fb, -np.inf
        for _ in range(self.n_iterations):
            variance = 1 / (1 + ratio * shares.sum(axis=0)[:, None] * self.plda.between)
            mean = ratio * variance * (shares.T @ rho)
            log_likelihood = self.fa * (rho @ mean.T - 0.5 * (variance + mean**2) @ self.plda.between + constant)
            weighted = log_likelihood + np.log(prior + 1e-8)
            total = _log_sum_exp(weighted)
            shares = np.exp(weighted - total)
            prior = shares.sum(axis=0) / shares.sum()
            before = bound
            bound = total.sum() + self.fb * 0.5 * np.sum(np.log(variance) - variance - mean**2 + 1)
            if bound - before < 1e-4:
                break
        return np.asarray(shares[:, prior > 1e-7])


@dataclass(frozen=True)
class Tree:
    """How n voices were merged, two groups at a time. Group n + i is what merge i made."""

    n: int
    merges: Labels  # (n - 1, 2)
    distances: FloatArray  # (n - 1,), not always rising: a centroid may come nearer to others

    def cut(self, max_distance: float) -> Labels:
        """Groups in which no merge, early or late, was at more than `max_distance`."""
        within = np.zeros(2 * self.n - 1)
        for merge, (a, b) in enumerate(self.merges.tolist()):
            within[self.n + merge] = max(float(self.distances[merge]), within[a], within[b])
        return self._labels(within[self.n :] <= max_distance)

    def labels_after(self, n_merges: int) -> Labels:
        return self._labels(np.arange(self.n - 1) < n_merges)

    def _labels(self, is_made: BoolArray) -> Labels:
        """Labels in order of the first voice, from which of the merges are made: with one, those it builds on."""
        group = np.arange(2 * self.n - 1)
        for merge in np.flatnonzero(is_made)[::-1].tolist():
            group[self.merges[merge]] = group[self.n + merge]
        _, first, labels = np.unique(group[: self.n], return_index=True, return_inverse=True)
        order = np.empty(len(first), np.int64)
        order[np.argsort(first)] = np.arange(len(first))
        return order[labels]


def centroid_linkage(vectors: FloatArray) -> Tree:
    """Merge the two groups whose centroids are nearest, by Euclid's distance, until one is left.

    Memory is linear in the number of voices: each group remembers only its nearest.
    """
    n = len(vectors)
    centres, sizes = np.array(vectors, np.float64), np.ones(n)
    names, merges, distances = np.arange(n), np.empty((n - 1, 2), np.int64), np.empty(n - 1)
    squares = np.square(centres).sum(axis=1)
    is_there = np.ones(n, bool)

    def distances_from(i: int) -> npt.NDArray[np.float64]:
        found = np.maximum(squares + squares[i] - 2 * (centres @ centres[i]), 0)
        found[~is_there] = np.inf
        found[i] = np.inf
        return np.asarray(found)

    nearest, nearest_distance = np.zeros(n, np.int64), np.full(n, np.inf)
    for i in range(n):
        found = distances_from(i)
        nearest[i], nearest_distance[i] = found.argmin(), found.min()
    for merge in range(n - 1):
        i = int(nearest_distance.argmin())
        j = int(nearest[i])
        merges[merge], distances[merge] = sorted((names[i], names[j])), np.sqrt(nearest_distance[i])
        centres[i] = (sizes[i] * centres[i] + sizes[j] * centres[j]) / (sizes[i] + sizes[j])
        squares[i] = centres[i] @ centres[i]
        sizes[i] += sizes[j]
        names[i] = n + merge
        is_there[j], nearest_distance[j] = False, np.inf

        found = distances_from(i)
        lost_its_nearest = is_there & np.isin(nearest, (i, j)) & (found > nearest_distance)
        is_nearer = is_there & (found < np.inf) & ~lost_its_nearest & (found <= nearest_distance)
        nearest[is_nearer], nearest_distance[is_nearer] = i, found[is_nearer]
        for k in np.union1d(np.flatnonzero(lost_its_nearest), [i]).tolist():
            row = found if k == i else distances_from(k)
            nearest[k], nearest_distance[k] = row.argmin(), row.min()
    return Tree(n, merges, distances)


def k_means(vectors: FloatArray, k: int) -> Labels:
    """Labels of k groups around their means, the best of three starts; always the same for the same vectors."""
    rng = np.random.default_rng(0)
    best: tuple[float, Labels] = (np.inf, np.zeros(len(vectors), np.int64))
    for _ in range(3):
        means = _spread(vectors, k, rng)
        for _ in range(100):
            distances = _squared_distances(vectors, means)
            labels = distances.argmin(axis=1)
            moved = np.array([vectors[labels == i].mean(axis=0) if np.any(labels == i) else means[i] for i in range(k)])
            if np.array_equal(moved, means):
                break
            means = moved
        total = float(distances.min(axis=1).sum())
        if total < best[0]:
            best = total, labels
    return best[1]


def _spread(vectors: FloatArray, k: int, rng: np.random.Generator) -> FloatArray:
    """k of the vectors, drawn one after another with a chance that grows with the square of the distance to the others
    (k-means++, Arthur and Vassilvitskii 2007)."""
    chosen = [int(rng.integers(len(vectors)))]
    while len(chosen) < k:
        chance = _squared_distances(vectors, vectors[chosen]).min(axis=1)
        chance[chosen] = 0
        if not chance.any():
            chance = np.array([float(i not in chosen) for i in range(len(vectors))])
        chosen.append(int(rng.choice(len(vectors), p=chance / chance.sum())))
    return np.array(vectors[chosen])


def assign(similarity: FloatArray, is_active: BoolArray, *, distinct: bool) -> Labels:
    """A speaker for each local speaker of each window: int64 `(n_windows, n_local)`, NOBODY where it is not active.

    similarity : `(n_windows, n_local, n_speakers)`; NaN counts as the least
    is_active : `(n_windows, n_local)`
    distinct : two of a window are two speakers, so that the sum of similarities is largest; with more of them than
        speakers, some are nobody
    """
    n_windows, n_local, n_speakers = similarity.shape
    least = np.nanmin(similarity) if np.isfinite(similarity).any() else 0.0
    known = np.where(np.isnan(similarity), least, similarity)
    if not distinct:
        return np.where(is_active, known.argmax(axis=2), NOBODY)
    known = np.where(is_active[:, :, None], known, least - 1)
    known = np.pad(known, ((0, 0), (0, 0), (0, max(0, n_local - n_speakers))), constant_values=least - 1)
    # A best matching gives each one of its own n_local favourites, since the others can take only n_local - 1 of them.
    favourites = np.argsort(-known, axis=2, kind="stable")[:, :, :n_local]
    values = np.take_along_axis(known, favourites, axis=2)
    best, assigned = np.full(n_windows, -np.inf), np.full((n_windows, n_local), NOBODY)
    for choice in product(range(n_local), repeat=n_local):
        each = np.arange(n_local)
        speakers = favourites[:, each, choice]  # (n_windows, n_local)
        total = values[:, each, choice].sum(axis=1)
        is_better = (np.diff(np.sort(speakers, axis=1), axis=1) > 0).all(axis=1) & (total > best)
        best[is_better], assigned[is_better] = total[is_better], speakers[is_better]
    return np.where(is_active & (assigned < n_speakers), assigned, NOBODY)


def cosine_similarity(vectors: FloatArray, others: FloatArray) -> FloatArray:
    """`(..., d)` and `(n, d)` -> `(..., n)`; NaN where a vector is."""
    return np.asarray(_normed(vectors) @ _normed(others).T)


def _small_to_large(vectors: FloatArray, labels: Labels, min_size: int) -> Labels:
    """Groups smaller than `min_size` join the most similar larger one; all are one where none is larger."""
    sizes = np.bincount(labels)
    large = np.flatnonzero(sizes >= min_size)
    if not len(large):
        return np.zeros_like(labels)
    means = np.array([vectors[labels == i].mean(axis=0) for i in range(len(sizes))])
    target = cosine_similarity(means, means[large]).argmax(axis=1)
    target[large] = np.arange(len(large))
    return np.asarray(target[labels])


def _normed(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


def _squared_distances(vectors: FloatArray, others: FloatArray) -> FloatArray:
    products = vectors @ others.T
    squares = np.square(vectors).sum(axis=1)[:, None] + np.square(others).sum(axis=1)
    return np.asarray(np.maximum(squares - 2 * products, 0))


def _log_sum_exp(x: FloatArray) -> FloatArray:
    """Over rows, which stay: `(n, 1)`."""
    highest = x.max(axis=1, keepdims=True)
    return np.asarray(highest + np.log(np.exp(x - highest).sum(axis=1, keepdims=True)))
