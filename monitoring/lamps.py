"""How many lamps a window has: cells of one run are imaged alike, and cells of many runs are not.

The mean embedding of the features of the image (Fourier features of their first discriminant, Fisher 1936) has a norm
that falls from that of one run to that of cells of different runs; its place between them is the `concentration`, about
1 for one run and 1 / R for R runs of one size.
"""

from dataclasses import dataclass

import numpy as np

from monitoring.statistics import Floats, Rows

_FREQUENCIES = np.linspace(0.1, 2.4, 24)
"""Of the Fourier features, in radians for a standard deviation within runs; weighed as of a kernel that wide."""
_LEAST_CONTRAST = 0.05
"""Where runs are imaged more alike than this, any window may be one run."""


@dataclass(frozen=True)
class Lamps:
    """The discriminant of the runs of a reference, and how alike its cells are."""

    centre: Floats
    """(F,)"""
    direction: Floats
    """(F,) in units of the standard deviation within runs."""
    same: float = 1.0
    """Similarity of two cells of one run."""
    different: float = 1.0
    """Similarity of two cells of different runs."""

    @classmethod
    def of(cls, features: Floats, groups: list[Rows]) -> "Lamps":
        """Find the discriminant of the rows `groups` of (n, F) features."""
        means = np.stack([features[rows].mean(0) for rows in groups])
        within = sum(np.cov(features[rows], rowvar=False) * len(rows) for rows in groups)
        within = np.asarray(within) / sum(map(len, groups))
        scale = np.sqrt(np.diag(within)) + 1e-9 * (1 + np.abs(means).max(0))
        # In units of the scatter, with a hundredth of it added: features that follow each other make it singular.
        correlation = within / np.outer(scale, scale) + 0.01 * np.eye(len(scale))
        values, vectors = np.linalg.eigh(correlation)
        half = vectors / np.sqrt(values) @ vectors.T
        deviations = (means - means.mean(0)) / scale @ half
        first = half @ np.linalg.svd(deviations, full_matrices=False)[2][0]
        lamps = cls(means.mean(0), first / scale / np.sqrt(first @ (correlation @ first)))
        embedded = [lamps.embed(features[rows]).mean(0) for rows in groups]
        same = np.mean([_similarity(mean, len(rows)) for mean, rows in zip(embedded, groups, strict=True)])
        total, squares = np.sum(embedded, axis=0), np.sum(np.square(embedded))
        different = (total @ total - squares) / max(len(groups) * (len(groups) - 1), 1)
        return cls(lamps.centre, lamps.direction, float(same), float(different) if len(groups) > 1 else float(same))

    def embed(self, features: Floats) -> Floats:
        """Return (n, P) Fourier features, each row of norm 1, of (n, F) features."""
        angles = ((features - self.centre) @ self.direction)[:, None] * _FREQUENCIES
        weights = np.exp(-(_FREQUENCIES**2) / 2)
        weights = np.sqrt(weights / weights.sum())
        return np.concatenate([np.cos(angles) * weights, np.sin(angles) * weights], axis=1)

    @property
    def tell(self) -> bool:
        """Return whether runs are imaged differently enough to be told apart."""
        return self.same - self.different >= _LEAST_CONTRAST

    def concentration(self, light: Floats, cells: int) -> Floats:
        """Return the (…,) concentrations of windows of `cells` cells with (…, P) mean embeddings, 0 to 1."""
        if not self.tell:
            return np.ones(light.shape[:-1])
        place = (_similarity(light, cells) - self.different) / (self.same - self.different)
        return np.asarray(np.clip(place, 0, 1))


def _similarity(mean: Floats, cells: int) -> Floats:
    """Return the (…,) mean similarities of two different cells among `cells` with (…, P) mean embeddings."""
    similarity: Floats = ((mean**2).sum(-1) * cells - 1) / max(cells - 1, 1)
    return similarity
