"""How unlike its training cells a cell is: a distance of embeddings.

The squared Mahalanobis distance to the nearest class mean under a covariance that all classes share (Lee et al. 2018),
which keeps the strongest directions and gives all others one variance (probabilistic PCA, Tipping and Bishop 1999): a
covariance of 2,048 figures cannot be estimated from a few thousand cells, and would not fit into a bundle either.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MahalanobisDetector:
    """Where the training cells lie in the space of embeddings."""

    means: Floats
    """(K, C), one a class."""
    directions: Floats
    """(C, r), orthonormal."""
    variances: Floats
    """(r,) along them."""
    rest: Floats
    """(1,) variance of each direction that is not among them."""

    @classmethod
    def fit(cls, embedding: Floats, targets: npt.NDArray[np.int64], directions: int) -> Self:
        """Describe (N, C) embeddings of cells of the classes `targets`, with up to `directions` directions."""
        classes = np.unique(targets)
        means = np.stack([embedding[targets == k].mean(0) for k in classes])
        deviations = (embedding - means[np.searchsorted(classes, targets)]).astype(np.float64)
        values, vectors = np.linalg.eigh(deviations.T @ deviations / max(1, len(deviations) - len(classes)))
        width = min(directions, embedding.shape[1] - 1, len(embedding) - len(classes))
        kept, left = values[-width:], values[:-width]
        rest = max(float(left.mean()), 1e-6 * float(values[-1]), 1e-12)
        found = (means, vectors[:, -width:], np.maximum(kept, rest), np.array([rest]))
        return cls(*(each.astype(np.float32) for each in found))

    def score(self, embedding: Floats) -> Floats:
        """Return (n,) distances of (n, C) embeddings, in standard deviations of the training cells."""
        squares = []
        for mean in self.means:
            deviation = embedding - mean
            along = deviation @ self.directions
            beside = np.maximum((deviation * deviation).sum(1) - (along * along).sum(1), 0)
            squares.append((along * along / self.variances).sum(1) + beside / self.rest[0])
        distance: Floats = np.sqrt(np.min(squares, axis=0) / embedding.shape[1]).astype(np.float32)
        return distance

    def components(self, embedding: Floats, count: int) -> Floats:
        """Return (n, count) coordinates of (n, C) embeddings along the strongest directions, strongest first.

        Zero is the mean of the class means, one the standard deviation of the training cells; there may be fewer.
        """
        chosen = self.directions[:, ::-1][:, :count]
        along = (embedding - self.means.mean(0)) @ chosen / np.sqrt(self.variances[::-1][:count])
        coordinates: Floats = along.astype(np.float32)
        return coordinates

    def save(self, path: Path) -> None:
        """Write to a safetensors file."""
        found = {"means": self.means, "directions": self.directions, "variances": self.variances, "rest": self.rest}
        save_file({name: np.ascontiguousarray(value) for name, value in found.items()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**load_file(path))
