"""How right a model is on cells without labels: balanced accuracy expected from calibrated probabilities.

Where a cell has the probability 0.9 of its predicted class, nine in ten of such cells are right (confidence-based
performance estimation; Białek et al. 2024). Probabilities are those of the mixture that the model assumes, so they are
first moved to the mixture that is estimated of these cells (`composition`), by Bayes' rule. Like a composition, it is
valid where probabilities are calibrated and only the mixture differs, not the appearance of a class.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from fatescope.inference import composition

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.integer]

MIN_CLASS_CELLS = 20.0
"""Cells of a class that are expected in a window for its recall to count."""
MIN_GROUPS = 3
"""Acquisition groups of each class from which it can be told how far an estimate is off."""
WINDOWS, WINDOW_CELLS = 200, 500
"""Windows that are drawn to learn how far an estimate is off from run to run, and the cells of each."""
_NORMAL = NormalDist()
_STEP = 1e-3
"""Of a share, by which the slope of the accuracy is found."""
_LEAST = 0.002
"""A share closer to 0 or 1 than this has the interval of this one."""


@dataclass(frozen=True)
class Expected:
    """What is expected of n cells without labels."""

    posteriors: Floats
    """(n, K) probability of each class in the mixture of these cells."""
    predicted: Indices
    """(n,) the predicted class."""
    table: Floats
    """(K, K) expected number of cells, true class by row, predicted class by column."""

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        """Return (K,) which classes have cells enough to count."""
        return count_classes(self.table)

    @property
    def recalls(self) -> Floats:
        """Return the (K,) expected share of right answers of each class."""
        recalls: Floats = np.diag(self.table) / np.maximum(self.table.sum(1), 1e-12)
        return recalls

    @property
    def balanced_accuracy(self) -> float:
        """Return the mean recall of the classes that count."""
        return float(self.recalls[self.counted].mean())

    @property
    def influence(self) -> Floats:
        """Return (n, K): what a cell adds to the balanced accuracy, to first order, if it is of each class."""
        counted = self.counted
        weights = counted / (counted.sum() * np.maximum(self.table.sum(1), 1e-12))
        right = self.predicted[:, None] == np.arange(len(counted))
        influence: Floats = weights * (right - self.recalls)
        return influence

    @property
    def deviations(self) -> Floats:
        """Return the (n,) standard deviations of what the cells add, their classes being unknown."""
        influence = self.influence
        mean = (self.posteriors * influence).sum(1)
        deviations: Floats = np.sqrt(np.maximum((self.posteriors * influence**2).sum(1) - mean**2, 0))
        return deviations


def count_classes(table: Floats) -> npt.NDArray[np.bool_]:
    """Return (K,) which classes have cells enough to count, by `Expected.table`; all of them where none has."""
    enough: npt.NDArray[np.bool_] = table.sum(1) >= MIN_CLASS_CELLS
    return enough if enough.any() else np.ones(len(enough), bool)


def expect(probabilities: Floats, prior: Floats, weights: Floats | None = None) -> Expected:
    """Return what is expected of cells with (n, K) `probabilities`, which assume the class shares `prior` (K,).

    `weights` (n,) are how often each cell counts.
    """
    shares = composition.maximise_likelihood(probabilities, prior, weights)
    return with_shares(probabilities, prior, shares, weights)


def with_shares(probabilities: Floats, prior: Floats, shares: Floats, weights: Floats | None = None) -> Expected:
    """Return what is expected of the cells in a mixture of these (K,) `shares`."""
    joint = probabilities.astype(np.float64) / prior * np.maximum(shares, 1e-9)
    posteriors = joint / joint.sum(1, keepdims=True)
    predicted = probabilities.argmax(1)
    columns = np.eye(probabilities.shape[1])[predicted]
    counted = posteriors if weights is None else posteriors * weights[:, None]
    return Expected(posteriors, predicted, counted.T @ columns)


@dataclass(frozen=True)
class Error:
    """How far estimates are off in windows of few runs, beyond the chance of their cells."""

    bias: float
    """Mean of the estimate less the truth."""
    variance: float
    """Of the estimate around the truth and that bias, where each class comes from one run."""
    groups: int
    """Acquisition groups of the class that has fewest, from which this is known."""

    @property
    def freedom(self) -> int:
        """Return the degrees of freedom of the variance."""
        return max(self.groups - 1, 1)


@dataclass(frozen=True)
class Estimate:
    """The balanced accuracy of a window, with a 95 % interval."""

    value: float
    low: float
    high: float
    classes: npt.NDArray[np.bool_]
    """(K,) which classes it is of: the others have too few cells."""


def learn_error(
    probabilities: Floats, targets: Indices, groups: npt.NDArray[np.generic], prior: Floats, seed: int = 0
) -> Error | None:
    """Learn how far estimates are off, from n cells of known classes that the model was not fitted on.

    A window is mostly recorded in one run: for each of WINDOWS windows of random composition, the cells of a class are
    those of one acquisition group. Returns None where some class has fewer than MIN_GROUPS groups.
    """
    rng, size = np.random.default_rng(seed), probabilities.shape[1]
    cells = composition.rows_by_group(targets, groups)
    if len(cells) < size or (fewest := min(map(len, cells.values()))) < MIN_GROUPS:
        return None
    right = probabilities.argmax(1) == targets
    errors = np.zeros(WINDOWS)
    for window in range(WINDOWS):
        shares = rng.dirichlet(np.ones(size))
        drawn = [cells[k][rng.integers(len(cells[k]))] for k in range(size)]
        weights = [
            np.full(len(rows), share / len(rows) * WINDOW_CELLS) for share, rows in zip(shares, drawn, strict=True)
        ]
        expected = expect(probabilities[np.concatenate(drawn)], prior, np.concatenate(weights))
        truth = np.array([right[rows].mean() for rows in drawn])
        errors[window] = expected.balanced_accuracy - truth[expected.counted].mean()
    return Error(float(errors.mean()), float(errors.var()), fewest)


def estimate(probabilities: Floats, prior: Floats, error: Error) -> Estimate:
    """Estimate the balanced accuracy among cells with (n, K) `probabilities` without labels.

    The variance is that between runs (`error`), that of the classes of these very cells, and that of their composition.
    """
    expected, variance = expect_with_variance(probabilities, prior)
    return conclude(expected.table, variance, error)


def expect_with_variance(probabilities: Floats, prior: Floats) -> tuple[Expected, float]:
    """Return what `expect` does, and the variance of its balanced accuracy by the chance of the cells alone."""
    shares = composition.maximise_likelihood(probabilities, prior)
    expected = with_shares(probabilities, prior, shares)
    slope = np.array([
        (_moved(probabilities, prior, shares, k, expected.counted) - expected.balanced_accuracy) / _STEP
        for k in range(len(shares))
    ])  # fmt: skip
    of_shares = slope @ composition.covariance(probabilities, prior, shares) @ slope
    return expected, float((expected.deviations**2).sum() + of_shares)


def conclude(table: Floats, variance: float, error: Error) -> Estimate:
    """Return the estimate of cells with this `Expected.table` and variance by chance."""
    counted = count_classes(table)
    expected = float((np.diag(table) / np.maximum(table.sum(1), 1e-12))[counted].mean())
    value = float(np.clip(expected - error.bias, 0, 1))
    half = student(error.freedom) * float(np.sqrt(error.variance + variance))
    return Estimate(value, *interval(value, half), counted)


def combine(first: Estimate, second: Estimate) -> Estimate | None:
    """Return what two independent estimates of the same cells say together, weighted by how narrow each is.

    Returns None where they contradict each other, or where one has no width.
    """
    places, halves = (
        np.array(values)
        for values in zip(
            *((_place(each.value), (_place(each.high) - _place(each.low)) / 2) for each in (first, second)), strict=True
        )
    )
    if not halves.all() or abs(places[0] - places[1]) > np.hypot(*halves):
        return None
    weights = 1 / halves**2
    place, half = float(weights @ places / weights.sum()), float(weights.sum() ** -0.5)
    low, value, high = (_NORMAL.cdf(place + reach) for reach in (-half, 0.0, half))
    return Estimate(value, low, high, first.classes)


def _place(share: float) -> float:
    """Return a share on the scale of normal quantiles."""
    return _NORMAL.inv_cdf(min(max(share, _LEAST), 1 - _LEAST))


def interval(value: float, half: float) -> tuple[float, float]:
    """Return the ends of the interval of a share, half as wide as `half` but on the scale of normal quantiles.

    It is longer to the side where there is more room, and does not leave the range of a share.
    """
    place = _place(value)
    reach = half / _NORMAL.pdf(place)
    return min(value, _NORMAL.cdf(place - reach)), max(value, _NORMAL.cdf(place + reach))


def student(freedom: float) -> float:
    """Return the quantile of Student's t for a 95 % interval, from two degrees of freedom on.

    The expansion of Cornish and Fisher, to within 1 %: the library does without SciPy.
    """
    z = _NORMAL.inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _moved(probabilities: Floats, prior: Floats, shares: Floats, k: int, counted: npt.NDArray[np.bool_]) -> float:
    """Return the balanced accuracy of the classes `counted` where class k has a larger share."""
    moved = shares + _STEP * np.eye(len(shares))[k]
    return float(with_shares(probabilities, prior, moved / moved.sum()).recalls[counted].mean())
