"""The composition of a culture from the mean probabilities of its cells, where the cells themselves are not at hand.

Among cells of class j, a model gives class k the mean probability A[j, k]; the mean of a culture is that of its
classes, weighted by their shares. A is learned from reference cells without their labels: calibrated probabilities say
how likely a cell is under each class (`composition`), and so how much it counts for it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fatescope.inference import composition

Floats = npt.NDArray[np.floating]
_LEAST = 1e-6
"""Smallest probability and share that is divided by."""
_BLIND = 0.02
"""How well a model must see a difference of shares, relative to the one that it sees best, for it to be solved for."""

MOST_CUT = 3.0
"""Standard deviations that the number of cells may put a share below 0."""


@dataclass(frozen=True)
class MeanComposition:
    """What reference cells say of mean probabilities."""

    probabilities: Floats
    """(n, K) of the reference cells."""
    prior: Floats
    """(K,) class shares that they assume."""
    mixture: Floats
    """(K,) class shares of the reference cells."""
    table: Floats
    """(K, K) mean probabilities of the cells of a class, by row."""

    def solve(self, mean: Floats) -> Floats:
        """Return (K,) numbers, with the sum 1, whose mixture of classes has these mean probabilities (K,).

        Below 0 or above 1 by chance, they are right on average, which shares that are kept within are not: of a class
        that is in no culture, these have a mean above 0. Directions that the model cannot see keep equal numbers.
        """
        size = len(mean)
        equal = np.full(size, 1 / size)
        away = np.linalg.lstsq(self.table.T, mean - self.table.T @ equal, rcond=_BLIND)[0]
        solution: Floats = equal + away - away.mean()
        return solution

    def shares(self, mean: Floats) -> Floats:
        """Return the (K,) class shares of a culture with these mean probabilities: `solve`, kept within 0 and 1."""
        solution = self.solve(mean)
        kept = np.ones(len(mean), bool)
        while (solution < 0).any():
            kept &= solution > 0
            found = np.linalg.lstsq(self.table.T[:, kept], mean, rcond=_BLIND)[0]
            solution = np.zeros(len(mean))
            solution[kept] = found / found.sum()
        return solution

    def uncut(self, shares: Floats, mean: Floats, chance: Floats) -> Floats:
        """Return (K,) `shares` with what their being kept at 0 cut off, by `mean` and the variances `chance`, all (K,).

        Where a class is rare, estimates that cannot be below 0 are above the truth on average. It is taken from classes
        within a standard deviation of 0, and no more than MOST_CUT of these, which chance does not exceed.
        """
        deviations = np.sqrt(chance)
        cut = np.where(shares < deviations, np.clip(self.solve(mean), -MOST_CUT * deviations, 0), 0)
        exact: Floats = shares * (1 - cut.sum()) + cut
        return exact

    def chance(self, shares: Floats, cells: int) -> Floats:
        """Return the (K,) variances of the shares of a culture that come from its having this many cells.

        They are what `composition.covariance` is on average, and at least those of a count.
        """
        shares = np.maximum(shares, _LEAST)
        likelihood = self.probabilities / self.prior
        # Reference cells count as often as their like occur in the culture.
        weights = (likelihood @ shares) / (likelihood @ np.maximum(self.mixture, _LEAST))
        spread = composition.covariance(self.probabilities, self.prior, shares, weights * cells / weights.sum())
        # One cell more of either kind: a share of 0 among few cells is not certain.
        counted = (shares * cells + 1) / (cells + 2)
        variances: Floats = np.maximum(np.diag(spread), counted * (1 - counted) / cells)
        return variances


def learn(probabilities: Floats, prior: Floats) -> MeanComposition:
    """Learn from (n, K) `probabilities` of reference cells, which assume the class shares `prior` (K,)."""
    likely = np.maximum(probabilities.astype(np.float64), _LEAST)
    mixture = composition.maximise_likelihood(likely, prior)
    density = (likely / prior) / ((likely / prior) @ np.maximum(mixture, _LEAST))[:, None]
    table = (density / density.sum(0)).T @ likely
    return MeanComposition(likely, prior, mixture, table)
