"""Out-of-distribution detection: how far the embedding of a cell lies from those of the training cells.

The Mahalanobis distance to the nearest class mean under a covariance shared by all classes (Lee et al. 2018). The
covariance keeps its principal directions and gives all others one variance (probabilistic PCA, Tipping and Bishop
1999): one of 2,048 features cannot be estimated from a few thousand cells, and would be too large for a bundle.
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
    """The distribution of the embeddings of training cells."""

    means: Floats
    """(K, C) Mean of each class."""
    directions: Floats
    """(C, r) Orthonormal principal directions, in ascending order of variance."""
    variances: Floats
    """(r,) Variances along them."""
    rest: Floats
    """(1,) Variance along each of the remaining directions."""

    @classmethod
    def fit(cls, embedding: Floats, targets: npt.NDArray[np.int64], directions: int) -> Self:
        """Fit to (N, C) embeddings of cells of the classes `targets`, with up to `directions` principal directions."""
        classes = np.unique(targets)
        means = np.stack([embedding[targets == k].mean(0) for k in classes])
        deviations = (embedding - means[np.searchsorted(classes, targets)]).astype(np.float64)
        values, vectors = np.linalg.eigh(deviations.T @ deviations / max(1, len(deviations) - len(classes)))
        width = min(directions, embedding.shape[1] - 1, len(embedding) - len(classes))
        kept, remaining = values[-width:], values[:-width]
        rest = max(float(remaining.mean()), 1e-6 * float(values[-1]), 1e-12)
        arrays = (means, vectors[:, -width:], np.maximum(kept, rest), np.array([rest]))
        return cls(*(array.astype(np.float32) for array in arrays))

    def score(self, embedding: Floats) -> Floats:
        """Return (n,) distances of (n, C) embeddings, in standard deviations of the training cells."""
        squares = []
        for mean in self.means:
            deviation = embedding - mean
            along = deviation @ self.directions
            residual = np.maximum((deviation * deviation).sum(1) - (along * along).sum(1), 0)
            squares.append((along * along / self.variances).sum(1) + residual / self.rest[0])
        distance: Floats = np.sqrt(np.min(squares, axis=0) / embedding.shape[1]).astype(np.float32)
        return distance

    def components(self, embedding: Floats, count: int) -> Floats:
        """Return (n, count) coordinates of (n, C) embeddings along the principal directions, largest variance first.

        Zero is the mean of the class means, one the standard deviation of the training cells; fewer than `count` where
        there are fewer directions.
        """
        chosen = self.directions[:, ::-1][:, :count]
        along = (embedding - self.means.mean(0)) @ chosen / np.sqrt(self.variances[::-1][:count])
        coordinates: Floats = along.astype(np.float32)
        return coordinates

    def save(self, path: Path) -> None:
        """Write to a safetensors file."""
        arrays = {"means": self.means, "directions": self.directions, "variances": self.variances, "rest": self.rest}
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the safetensors file that `save` wrote."""
        return cls(**load_file(path))
