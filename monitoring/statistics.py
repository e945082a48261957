"""What drift is told by: cells as arrays, and statistics of a window beside what is known (see `monitoring.drift`)."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fatescope.data import shift
from fatescope.data.features import ACQUISITION
from fatescope.inference.uncertainty import UNLIKE, UNSURE

Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.int64]

FIGURES = (*ACQUISITION, "height", "width")
"""Columns whose distributions are compared."""
RATES = {"unsure": UNSURE, "unlike": UNLIKE}
"""Statistic → the verdict that it is the rate of."""
EDGE = 0.005
"""Share of the reference that lies beyond either end of what counts as known."""
LEAST = 1e-3
"""Share that a part of a distribution has at least, for the population stability index."""
_DECILES = np.linspace(0.1, 0.9, 9)
_EXPLAINED = 0.95
"""Share of what groups differ by that `novelty` disregards."""
_CALLED = 15
"""Cells of a group that are called alike, from which their mean is asked."""


@dataclass(frozen=True)
class CellFeatures:
    """n cells."""

    figures: Floats
    """(n, len(FIGURES))"""
    kernel: Floats
    """(n, F) random features of the kernel on the embedding."""
    called: Floats
    """(n, K) 1 for the most probable class."""
    verdicts: npt.NDArray[np.bool_]
    """(n, len(RATES)) whether it has the verdict."""

    def of(self, rows: Rows) -> "CellFeatures":
        """Return some of them."""
        return CellFeatures(self.figures[rows], self.kernel[rows], self.called[rows], self.verdicts[rows])


@dataclass(frozen=True)
class Sums:
    """Of cells by called class: what means are made of, so that groups can be taken out."""

    kernel: Floats
    """(K, F) sums of the kernel's random features."""
    counts: Floats
    """(K,)"""

    @classmethod
    def of(cls, cells: CellFeatures) -> "Sums":
        """Return those of `cells`."""
        return cls(cells.called.T @ cells.kernel, cells.called.sum(0))

    @property
    def means(self) -> Floats:
        """Return (K, F) means; 0 for a class without any."""
        means: Floats = self.kernel / np.maximum(self.counts, 1)[:, None]
        return means


@dataclass(frozen=True)
class Space:
    """Where the embeddings of a reference lie, and along what its groups differ."""

    means: Floats
    """(K, F) of the kernel's random features, by called class."""
    directions: Floats
    """(r, F), orthonormal: most of what groups differ by among cells called alike."""

    @classmethod
    def of(cls, everything: Sums, groups: list[Sums]) -> "Space":
        """Return the space of the sums of all cells, and of each of their groups."""
        means, deviations = everything.means, []
        for each in groups:
            often = each.counts >= _CALLED
            deviations.append((each.means - means)[often] * np.sqrt(each.counts[often])[:, None])
        if len(groups) < 2:
            return cls(means, np.zeros((0, means.shape[1])))
        _, lengths, directions = np.linalg.svd(np.concatenate(deviations), full_matrices=False)
        explained = np.cumsum(lengths**2) / max(float((lengths**2).sum()), 1e-12)
        return cls(means, directions[: int(np.searchsorted(explained, _EXPLAINED)) + 1])

    def novelty(self, cells: CellFeatures) -> float:
        """Return how far `cells` lie from the means, across `directions`; 0 is what chance makes of like cells."""
        here = sample(replace(cells, kernel=self._across(cells.kernel)))
        return _apart(self._across(self.means), np.zeros(len(self.means)), here)

    def _across(self, features: Floats) -> Floats:
        across: Floats = features - features @ self.directions.T @ self.directions
        return across


@dataclass(frozen=True)
class Sample:
    """What is asked of cells."""

    figures: Floats
    """(len(FIGURES), n), ascending."""
    kernel: Floats
    """(K, F) the mean of the kernel's random features over the embeddings of each called class; 0 without any."""
    scatter: Floats
    """(K,) the expected square of the error of that mean, by the scatter of the cells."""
    classes: Floats
    """(K,) share of each called class."""
    rates: Floats
    """(len(RATES),)"""


def sample(cells: CellFeatures) -> Sample:
    """Return what is asked of `cells`."""
    sums = Sums.of(cells)
    counts, kernel = sums.counts, sums.means
    squares = cells.called.T @ (cells.kernel**2).sum(1) / np.maximum(counts, 1)
    return Sample(
        np.sort(cells.figures.T, axis=1),
        kernel,
        (squares - (kernel**2).sum(1)) / np.maximum(counts - 1, 1),
        counts / len(cells.called),
        rates(cells),
    )


def rates(cells: CellFeatures) -> Floats:
    """Return the (len(RATES),) shares of the verdicts."""
    shares: Floats = cells.verdicts.mean(0)
    return shares


def compare(known: Sample, window: Sample) -> dict[str, float]:
    """Return every statistic of a window beside what is known."""
    found = dict[str, float]()
    for i, name in enumerate(FIGURES):
        before, now = known.figures[i], window.figures[i]
        found[f"ks_{name}"] = shift.distance(before, now)
        found[f"psi_{name}"] = _stability(before, now)
        low, high = np.quantile(before, (EDGE, 1 - EDGE))
        found[f"outside_{name}"] = float(((now < low) | (now > high)).mean())
    found["mmd"] = _apart(known.kernel, known.scatter, window)
    found["classes"] = float(np.abs(known.classes - window.classes).sum() / 2)
    return found | dict(zip(RATES, np.maximum(window.rates - known.rates, 0).tolist(), strict=True))


def _apart(means: Floats, scatter: Floats, window: Sample) -> float:
    """Return the distance of a window from the (K, F) `means`, whose squared errors are `scatter`, by called class.

    Less what chance makes of it, so that few cells are not farther away than many.
    """
    squares = ((means - window.kernel) ** 2).sum(1) - scatter - window.scatter
    # A class that the reference does not have says nothing of how its cells look.
    shares = window.classes * means.any(1)
    return float(np.sqrt(max(0.0, float((shares * squares).sum()))))


def _stability(before: Floats, now: Floats) -> float:
    """Return the population stability index of sorted samples over the deciles of `before`."""
    edges = np.quantile(before, _DECILES)
    shares = []
    for each in (before, now):
        counts = np.diff(np.concatenate([[0], np.searchsorted(each, edges, side="right"), [len(each)]]))
        # An empty one would make it infinite; the same for both, however many cells they have.
        shares.append(np.maximum(counts / len(each), LEAST))
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
