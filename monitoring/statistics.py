"""Statistics of a window of cells beside a reference; `monitoring.drift` says which there are and what they mean."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fatescope.data import shift
from fatescope.data.features import ACQUISITION
from fatescope.inference.uncertainty import UNLIKE, UNSURE

Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.int64]

FEATURES = (*ACQUISITION, "height", "width")
"""Columns whose distributions are compared."""
VERDICT_RATES = {"unsure": UNSURE, "unlike": UNLIKE}
"""Statistic → the verdict whose rate it compares."""
TAIL = 0.005
"""Share of the reference beyond either end of the range that counts as known."""
MIN_SHARE = 1e-3
"""Lower bound on the share of cells in a bin of the population stability index, which is infinite for empty bins."""
_DECILES = np.linspace(0.1, 0.9, 9)
_EXPLAINED_VARIANCE = 0.95
"""Share of the variance between groups that `novelty` disregards."""
_MIN_CELLS_PER_MEAN = 15
"""Cells of a group and predicted class that a mean embedding needs."""


@dataclass(frozen=True)
class CellFeatures:
    """Features of n cells, as arrays."""

    features: Floats
    """(n, len(FEATURES))"""
    kernel: Floats
    """(n, F) random Fourier features of the embedding."""
    predicted: Floats
    """(n, K) 1 for the most probable class, else 0."""
    verdicts: npt.NDArray[np.bool_]
    """(n, len(VERDICT_RATES)) whether a cell has the verdict."""

    def take(self, rows: Rows) -> "CellFeatures":
        """Return the cells at `rows`."""
        return CellFeatures(self.features[rows], self.kernel[rows], self.predicted[rows], self.verdicts[rows])


@dataclass(frozen=True)
class ClassSums:
    """Sums of kernel features by predicted class, from which those of a group can be subtracted."""

    kernel: Floats
    """(K, F)"""
    counts: Floats
    """(K,) cells."""

    @classmethod
    def of(cls, cells: CellFeatures) -> "ClassSums":
        """Sum over `cells`."""
        return cls(cells.predicted.T @ cells.kernel, cells.predicted.sum(0))

    def without(self, other: "ClassSums") -> "ClassSums":
        """Return the sums without those of some of the cells."""
        return ClassSums(self.kernel - other.kernel, self.counts - other.counts)

    @property
    def means(self) -> Floats:
        """Return the (K, F) means; 0 for a class without cells."""
        means: Floats = self.kernel / np.maximum(self.counts, 1)[:, None]
        return means


@dataclass(frozen=True)
class EmbeddingSpace:
    """Mean embeddings of a reference, and the directions along which its acquisition groups differ."""

    means: Floats
    """(K, F) mean kernel features by predicted class."""
    directions: Floats
    """(r, F), orthonormal; they explain most of the variance between groups within a predicted class."""

    @classmethod
    def of(cls, everything: ClassSums, groups: list[ClassSums]) -> "EmbeddingSpace":
        """Return the space of a reference from the sums of all its cells and of every group."""
        means, deviations = everything.means, []
        if len(groups) < 2:
            return cls(means, np.zeros((0, means.shape[1])))
        for group in groups:
            enough = group.counts >= _MIN_CELLS_PER_MEAN
            deviations.append((group.means - means)[enough] * np.sqrt(group.counts[enough])[:, None])
        _, singular_values, directions = np.linalg.svd(np.concatenate(deviations), full_matrices=False)
        variances = singular_values**2
        explained = np.cumsum(variances) / max(float(variances.sum()), 1e-12)
        return cls(means, directions[: int(np.searchsorted(explained, _EXPLAINED_VARIANCE)) + 1])

    def novelty(self, cells: CellFeatures) -> float:
        """Return the distance of `cells` from the means, orthogonal to `directions`; about 0 for like cells."""
        window = summarise(replace(cells, kernel=self._remove_directions(cells.kernel)))
        return _mmd(self._remove_directions(self.means), np.zeros(len(self.means)), window)

    def _remove_directions(self, kernel: Floats) -> Floats:
        orthogonal: Floats = kernel - kernel @ self.directions.T @ self.directions
        return orthogonal


@dataclass(frozen=True)
class Summary:
    """Quantities of a set of cells that `compare` needs."""

    features: Floats
    """(len(FEATURES), n), ascending."""
    kernel: Floats
    """(K, F) mean kernel features by predicted class; 0 for a class without cells."""
    squared_error: Floats
    """(K,) expected squared error of that mean."""
    class_shares: Floats
    """(K,) share of every predicted class."""
    verdict_rates: Floats
    """(len(VERDICT_RATES),)"""


def summarise(cells: CellFeatures) -> Summary:
    """Return the quantities that `compare` needs of `cells`."""
    sums = ClassSums.of(cells)
    counts, means = sums.counts, sums.means
    squares = cells.predicted.T @ (cells.kernel**2).sum(1) / np.maximum(counts, 1)
    return Summary(
        np.sort(cells.features.T, axis=1),
        means,
        (squares - (means**2).sum(1)) / np.maximum(counts - 1, 1),
        counts / len(cells.predicted),
        verdict_rates(cells),
    )


def verdict_rates(cells: CellFeatures) -> Floats:
    """Return the (len(VERDICT_RATES),) shares of cells with each verdict."""
    shares: Floats = cells.verdicts.mean(0)
    return shares


def compare(reference: Summary, window: Summary) -> dict[str, float]:
    """Return statistic → value for a window beside a reference; all but `novelty`."""
    statistics = dict[str, float]()
    for i, name in enumerate(FEATURES):
        known, recent = reference.features[i], window.features[i]
        statistics[f"ks_{name}"] = shift.distance(known, recent)
        statistics[f"psi_{name}"] = _population_stability_index(known, recent)
        low, high = np.quantile(known, (TAIL, 1 - TAIL))
        statistics[f"outside_{name}"] = float(((recent < low) | (recent > high)).mean())
    statistics["mmd"] = _mmd(reference.kernel, reference.squared_error, window)
    statistics["classes"] = float(np.abs(reference.class_shares - window.class_shares).sum() / 2)
    excess = np.maximum(window.verdict_rates - reference.verdict_rates, 0)
    return statistics | dict(zip(VERDICT_RATES, excess.tolist(), strict=True))


def _mmd(means: Floats, squared_error: Floats, window: Summary) -> float:
    """Return the maximum mean discrepancy between (K, F) `means` and a window, over cells predicted alike.

    What chance contributes, by the (K,) expected squared errors of both means, is subtracted, so that a small window is
    not farther away than a large one.
    """
    squares = ((means - window.kernel) ** 2).sum(1) - squared_error - window.squared_error
    # A predicted class that the reference lacks has no mean to compare with.
    shares = window.class_shares * means.any(1)
    return float(np.sqrt(max(0.0, float((shares * squares).sum()))))


def _population_stability_index(known: Floats, recent: Floats) -> float:
    """Return the population stability index (Siddiqi 2006) of sorted samples over the deciles of `known`."""
    edges = np.quantile(known, _DECILES)
    shares = []
    for values in (known, recent):
        counts = np.diff(np.concatenate([[0], np.searchsorted(values, edges, side="right"), [len(values)]]))
        shares.append(np.maximum(counts / len(values), MIN_SHARE))
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
