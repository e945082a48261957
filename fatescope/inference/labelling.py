"""Which cells a person should label next, and how right a model is according to few labels.

Cells are drawn at random, those more often whose label is expected to say more (active testing, Kossen et al. 2021):
with the probability of each known, the answers are weighted so that the draw does not decide the result. Where cells
have no label, what the model expects of them stands in, and labels correct it (prediction-powered inference,
Angelopoulos et al. 2023; active statistical inference, Zrnic and Candès 2024). Nothing is assumed of the
probabilities: where they are wrong, the interval is wider, not false.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fatescope.inference.accuracy import Estimate, Expected, count_classes, interval, student

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.integer]

UNIFORM = 0.5
"""Share of draws in which all cells are alike, so that none is left out however sure the model is of it."""
MIN_LABELS = 20
"""Labels that an interval needs."""
_LEAST_FREEDOM = 3.0


@dataclass(frozen=True)
class Draw:
    """Cells to label, in the order in which they are to be labelled."""

    rows: Indices
    """(m,)"""
    sizes: Floats
    """(m,) by which each is drawn; those of all n cells add up to one."""
    keys: Floats
    """(m + 1,) in ascending order; the last is that of the cell that would follow, infinite where there is none."""


@dataclass(frozen=True)
class Labelled:
    """The balanced accuracy of some cells according to labels of a few, with a 95 % interval."""

    value: float
    low: float
    high: float
    labels: int
    classes: npt.NDArray[np.bool_]
    """(K,) which classes it is of: the others have too few cells."""

    def as_estimate(self) -> Estimate:
        """Return the figure and its interval alone."""
        return Estimate(self.value, self.low, self.high, self.classes)


def draw(expected: Expected, count: int, rng: np.random.Generator) -> Draw:
    """Draw up to `count` of n cells without replacement, by how uncertain what each adds to the balanced accuracy is.

    One after the other is drawn from those that are left, in proportion to the sizes: the order of exponential keys
    divided by them.
    """
    number, deviations = len(expected.predicted), expected.deviations
    total = float(deviations.sum())
    sizes = np.full(number, 1 / number)
    if total > 0:
        sizes = UNIFORM * sizes + (1 - UNIFORM) * deviations / total
    keys = rng.exponential(size=number) / sizes
    order = np.argsort(keys)
    rows = order[:count]
    return Draw(rows, sizes[rows], np.append(keys[rows], keys[order[count]] if count < number else np.inf))


def from_labels(
    posteriors: Floats, predicted: Indices, targets: Indices, sizes: Floats, following: float, table: Floats
) -> Labelled | None:
    """Return the balanced accuracy of n cells, of which the first m that `draw` gave are labelled.

    `posteriors` (m, K), `predicted` (m,) and `sizes` (m,) are theirs, `targets` (m,) the classes that a person gave
    them, negative where they could not tell, `following` is the key of the cell after them, and `table` (K, K) is
    `Expected.table` of all n cells. It is that of the cells whose class a person can tell. Returns None for fewer than
    MIN_LABELS labels. Given the key that follows, cells are in the sample independently, with known probabilities
    (rank conditioning, Cohen and Kaplan 2007).
    """
    known = targets >= 0
    if known.sum() < MIN_LABELS:
        return None
    true = np.zeros(posteriors.shape)
    true[known, targets[known]] = 1.0
    called = np.eye(len(table))[predicted]
    included = -np.expm1(-sizes * following)
    # What a person cannot tell is no cell of any class, and is taken from what was expected.
    corrections = true - posteriors
    counts = np.maximum(table + (corrections / included[:, None]).T @ called, 0)
    cells = counts.sum(1)
    recalls = np.diag(counts) / np.maximum(cells, 1e-12)
    # Not by the labels, which would leave out a class just where few of its cells were drawn.
    counted = count_classes(table)
    influence = counted / (counted.sum() * np.maximum(cells, 1e-12)) * (called - recalls)
    residuals = (corrections * influence).sum(1)
    parts = (1 - included) * (residuals / included) ** 2
    variance, value = float(parts.sum()), float(recalls[counted].mean())
    if not variance:
        return Labelled(value, value, value, int(known.sum()), counted)
    # A variance that rests on a few cells of much weight is itself uncertain (Satterthwaite).
    freedom = max(variance**2 / float((parts**2).sum()) - 1, _LEAST_FREEDOM)
    return Labelled(value, *interval(value, student(freedom) * variance**0.5), int(known.sum()), counted)
