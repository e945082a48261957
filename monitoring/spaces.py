"""Distances between mean embeddings of cells predicted alike, each after a linear map that the reference gives.

| statistic | map |
|---|---|
| `mmd` | none: maximum mean discrepancy of random Fourier features (Gretton et al. 2012) |
| `novelty` | the same, orthogonal to the directions along which the groups of the reference differ |
| `hotelling` | components in units of how much the groups of the reference differ (Hotelling 1931) |

What chance contributes to the square of a distance is subtracted, so that a small window is not farther away than a
large one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from monitoring.statistics import CellFeatures, Floats, Means

KERNEL_FEATURES = 256
"""Random Fourier features that approximate a Gaussian kernel (Rahimi and Recht 2007); components follow them."""
_EXPLAINED_VARIANCE = 0.95
"""Share of the variance between groups that `novelty` disregards."""
_MIN_CELLS_PER_MEAN = 15
"""Cells of a group and predicted class that a mean embedding needs."""
_LEAST_SPREAD = 0.01
"""The least variance between groups that `hotelling` assumes along any direction, as a share of that within them."""


@dataclass(frozen=True)
class Within:
    """How cells of one group that are predicted alike scatter."""

    covariances: Floats
    """(K, E, E)"""

    @classmethod
    def of(cls, cells: CellFeatures, groups: Floats, means: list[Means]) -> "Within":
        """Return the covariances of `cells` about the means of their `groups`, (n,) places in `means`."""
        centres = np.stack([each.embedding for each in means])
        covariances = []
        for k in range(cells.predicted.shape[1]):
            rows = np.flatnonzero(cells.predicted[:, k])
            deviations = cells.embedding[rows] - centres[groups[rows], k]
            freedom = len(rows) - sum(each.counts[k] > 0 for each in means)
            covariances.append(deviations.T @ deviations / max(freedom, 1))
        return cls(np.stack(covariances))


@dataclass(frozen=True)
class Space:
    """One distance: where the reference lies, and the map of differences from there."""

    maps: Floats
    """(K, E, M)"""
    chance: Floats
    """(K,) expected square of the mapped deviation of one cell."""

    @classmethod
    def of(cls, maps: Floats, within: Within) -> "Space":
        """Return the space of (K, E, M) `maps`."""
        return cls(maps, np.einsum("kem,kef,kfm->k", maps, within.covariances, maps, optimize=True))

    def apply(self, differences: Floats) -> Floats:
        """Return (D, K, M) mapped differences of (D, K, E) mean embeddings."""
        mapped: Floats = np.matmul(differences.swapaxes(0, 1), self.maps).swapaxes(0, 1)
        return mapped

    def distances(self, mapped: Floats, counts: Floats, known: Floats) -> Floats:
        """Return (…,) distances of windows, which have (…, K) `counts`, from a reference, which has (K,) `known`."""
        # A predicted class that the reference lacks has no mean to compare with.
        errors = self.chance * (1 / np.maximum(counts, 1) + 1 / np.maximum(known, 1))
        shares = counts / counts.sum(-1, keepdims=True) * (known > 0)
        squares = (shares * ((mapped**2).sum(-1) - errors)).sum(-1)
        distances: Floats = np.sqrt(np.maximum(squares, 0))
        return distances


def spaces(pooled: Means, groups: list[Means], within: Within) -> dict[str, Space]:
    """Return statistic → its space, for a reference with the means `pooled` and the means of its `groups`."""
    return {name: Space.of(build(pooled, groups, within), within) for name, build in _MAPS.items()}


def _kernel(pooled: Means, groups: list[Means], within: Within) -> Floats:  # noqa: ARG001  as the other maps
    classes, size = pooled.embedding.shape
    return np.broadcast_to(np.eye(size, KERNEL_FEATURES), (classes, size, KERNEL_FEATURES))


def _orthogonal(pooled: Means, groups: list[Means], within: Within) -> Floats:
    identity, kernel = _kernel(pooled, groups, within), slice(KERNEL_FEATURES)
    deviations = []
    for group in groups:
        enough = group.counts >= _MIN_CELLS_PER_MEAN
        difference = (group.embedding - pooled.embedding)[enough, kernel]
        deviations.append(difference * np.sqrt(group.counts[enough])[:, None])
    if len(groups) < 2 or not sum(map(len, deviations)):
        return identity
    _, singular_values, directions = np.linalg.svd(np.concatenate(deviations), full_matrices=False)
    explained = np.cumsum(singular_values**2) / max(float((singular_values**2).sum()), 1e-12)
    kept = directions[: int(np.searchsorted(explained, _EXPLAINED_VARIANCE)) + 1]
    orthogonal: Floats = identity - identity[..., :KERNEL_FEATURES] @ kept.T @ kept
    return orthogonal


def _whitening(pooled: Means, groups: list[Means], within: Within) -> Floats:
    classes, size = pooled.embedding.shape
    kept = slice(KERNEL_FEATURES, size)
    maps = np.zeros((classes, size, size - KERNEL_FEATURES))
    scatters = within.covariances[:, kept, kept] + 1e-9 * np.eye(size - KERNEL_FEATURES)
    between, freedom = np.zeros_like(scatters[0]), 0
    for k in range(classes):
        chosen = [group for group in groups if group.counts[k] >= _MIN_CELLS_PER_MEAN]
        if len(chosen) > 1:
            means = np.stack([group.embedding[k, kept] for group in chosen])
            deviations = means - means.mean(0)
            chance = np.mean([1 / group.counts[k] for group in chosen])
            between += deviations.T @ deviations - (len(chosen) - 1) * chance * scatters[k]
            freedom += len(chosen) - 1
    values, vectors = np.linalg.eigh(between / max(freedom, 1))
    between = vectors * np.maximum(values, 0) @ vectors.T
    for k in range(classes):
        values, vectors = np.linalg.eigh(between + _LEAST_SPREAD * scatters[k])
        maps[k, kept] = vectors / np.sqrt(values) @ vectors.T
    return maps


_MAPS: dict[str, Callable[[Means, list[Means], Within], Floats]] = {
    "mmd": _kernel,
    "novelty": _orthogonal,
    "hotelling": _whitening,
}
