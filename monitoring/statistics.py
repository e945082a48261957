"""Statistics of a window of cells beside a reference; `monitoring.drift` says which there are and what they mean.

All of them follow from means over the cells of a window (`Means`), and from how far these lie from those of the
reference. Functions take means of one window, or of D windows at a time with a leading axis.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fatescope.data.features import ACQUISITION, acquisition_columns
from fatescope.inference.uncertainty import UNLIKE, UNSURE

Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.int64]

_SIZES = ("height", "width")
FEATURES = (*ACQUISITION, *_SIZES)
"""Columns whose distributions are compared, where a model sees one channel."""
VERDICT_RATES = {"unsure": UNSURE, "unlike": UNLIKE}
"""Statistic → the verdict whose rate it compares."""
TAIL = 0.005
"""Share of the reference beyond either end of the range that counts as known."""
MIN_SHARE = 1e-3
"""Lower bound on the share of cells in a bin of the population stability index, which is infinite for empty bins."""
KERNEL_FEATURES = 256
"""Random Fourier features that approximate a Gaussian kernel (Rahimi and Recht 2007)."""
LEVELS = np.array([TAIL, *np.linspace(0.01, 0.99, 99), 1 - TAIL])
"""Quantiles of the reference at which distributions are compared."""
_DECILES = 1 + np.searchsorted(LEVELS, np.linspace(0.1, 0.9, 9) - 1e-9)
"""Their places in `Means.below`."""


@dataclass(frozen=True)
class CellFeatures:
    """Features of n cells, as arrays."""

    features: Floats
    """(n, F), see `Coding.features`."""
    kernel: Floats
    """(n, KERNEL_FEATURES) random Fourier features of the embedding."""
    described: Floats
    """(n, 2C) as of `monitoring.novelty`."""
    predicted: Floats
    """(n, K) 1 for the most probable class, else 0."""
    verdicts: Floats
    """(n, len(VERDICT_RATES)) 1 where a cell has the verdict, else 0."""
    light: Floats
    """(n, P) features whose mean tells how many lamps a window has."""
    names: tuple[str, ...]
    """(F,) of the features."""

    def take(self, rows: Rows) -> "CellFeatures":
        """Return the cells at `rows`."""
        return replace(
            self,
            features=self.features[rows],
            kernel=self.kernel[rows],
            described=self.described[rows],
            predicted=self.predicted[rows],
            verdicts=self.verdicts[rows],
            light=self.light[rows],
        )

    def below(self, edges: Floats) -> Floats:
        """Return (n, F, L + 1): 1 where a feature is below the first of (F, L) `edges`, or up to each."""
        values = self.features[:, :, None]
        return np.concatenate([values < edges[:, :1], values <= edges], axis=2).astype(np.float32)


@dataclass(frozen=True)
class Means:
    """Means over the cells of a window, or the differences of such means."""

    below: Floats
    """(…, F, L + 1) shares of cells, as of `CellFeatures.below`."""
    kernel: Floats
    """(…, K, KERNEL_FEATURES) of the cells predicted as each class; 0 for a class without cells."""
    counts: Floats
    """(…, K) cells predicted as each class."""
    verdicts: Floats
    """(…, len(VERDICT_RATES)) shares."""
    light: Floats
    """(…, P)"""

    @classmethod
    def of(cls, cells: CellFeatures, edges: Floats) -> "Means":
        """Return the means over `cells`."""
        counts = cells.predicted.sum(0)
        ordered = np.sort(cells.features, axis=0).T
        below = [
            np.append(np.searchsorted(values, ends[:1]), np.searchsorted(values, ends, side="right"))
            for values, ends in zip(ordered, edges, strict=True)
        ]
        return cls(
            np.stack(below) / len(cells.features),
            cells.predicted.T @ cells.kernel / np.maximum(counts, 1)[:, None],
            counts,
            cells.verdicts.mean(0),
            cells.light.mean(0),
        )

    def without(self, other: "Means") -> "Means":
        """Return the means of these cells without `other`, which are some of them."""
        total, part = float(self.counts.sum()), float(other.counts.sum())
        counts = self.counts - other.counts
        sums = self.kernel * self.counts[:, None] - other.kernel * other.counts[:, None]
        below, verdicts, light = (
            (mine * total - others * part) / max(total - part, 1)
            for mine, others in (
                (self.below, other.below),
                (self.verdicts, other.verdicts),
                (self.light, other.light),
            )
        )
        kernel = sums * (counts > 0)[:, None] / np.maximum(counts, 1)[:, None]
        return Means(below, kernel, counts, verdicts, light)

    @property
    def shares(self) -> Floats:
        """Return the (…, K) shares of the predicted classes."""
        shares: Floats = self.counts / self.counts.sum(-1, keepdims=True)
        return shares


def compared_columns(reference: Iterable[str]) -> list[str]:
    """Return those of the columns of a reference whose distributions are compared: FEATURES, in each channel."""
    return [*acquisition_columns(reference), *_SIZES]


def compare_features(names: Sequence[str], reference: Floats, differences: Floats) -> dict[str, Floats]:
    """Return statistic → (…,) values for (…, F, L + 1) differences from the (F, L + 1) shares of a reference.

    `names` are those of the F features.
    """
    window = reference + differences
    distances = np.abs(differences).max(-1)
    known, recent = (np.maximum(_bins(shares[..., _DECILES]), MIN_SHARE) for shares in (reference, window))
    stability = ((recent - known) * np.log(recent / known)).sum(-1)
    outside = window[..., 0] + 1 - window[..., -1]
    statistics = dict[str, Floats]()
    for i, name in enumerate(names):
        statistics[f"ks_{name}"] = distances[..., i]
        statistics[f"psi_{name}"] = stability[..., i]
        statistics[f"outside_{name}"] = outside[..., i]
    return statistics


def discrepancies(differences: Floats, scatter: Floats, counts: Floats, known: Floats) -> Floats:
    """Return the (…,) maximum mean discrepancies of windows, from (…, K, KERNEL_FEATURES) differences of means.

    What chance contributes is subtracted, so that a small window is not farther away than a large one: (K,) `scatter`
    is the expected square of the deviation of one cell; windows have (…, K) `counts`, the reference has (K,) `known`.
    """
    errors = scatter * (1 / np.maximum(counts, 1) + 1 / np.maximum(known, 1))
    # A predicted class that the reference lacks has no mean to compare with.
    shares = counts / counts.sum(-1, keepdims=True) * (known > 0)
    squares = (shares * ((differences**2).sum(-1) - errors)).sum(-1)
    distances: Floats = np.sqrt(np.maximum(squares, 0))
    return distances


def compare_shares(reference: Floats, window: Floats) -> Floats:
    """Return the (…,) total variation distances between (K,) and (…, K) shares."""
    distances: Floats = np.abs(window - reference).sum(-1) / 2
    return distances


def excess_rates(differences: Floats) -> dict[str, Floats]:
    """Return statistic → (…,) excess of the rate of each verdict, from (…, len(VERDICT_RATES)) differences."""
    return {name: np.maximum(differences[..., i], 0) for i, name in enumerate(VERDICT_RATES)}


def _bins(cumulative: Floats) -> Floats:
    ends = [(0, 0)] * (cumulative.ndim - 1)
    padded = np.pad(cumulative, [*ends, (1, 0)])
    return np.diff(np.pad(padded, [*ends, (0, 1)], constant_values=1.0), axis=-1)
