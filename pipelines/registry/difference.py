"""The difference in balanced accuracy of two models on the same cells, with what it may be off by chance."""

from dataclasses import dataclass

import numpy as np

from pipelines.evaluation.intervals import Spread, Units, choose_units, counts_without, spread
from pipelines.evaluation.metrics import balanced_accuracy
from pipelines.registry.paired import PairedPredictions


@dataclass(frozen=True)
class Difference:
    """The balanced accuracy of two models on the same cells."""

    before: float
    after: float
    spread: Spread
    """Of the difference."""
    units: Units
    """What was left out in turn."""

    @property
    def gain(self) -> float:
        """Return by how much the later model is better."""
        return self.after - self.before

    def ends(self, level: float) -> tuple[float, float]:
        """Return between what the true gain is; each end alone is wrong with the chance `level`."""
        reach = self.spread.quantile(1 - level)
        return self.gain - reach, self.gain + reach


def measure_difference(paired: PairedPredictions) -> Difference:
    """Compare two models by a jackknife over acquisition groups, or over cells where a class has a single group."""
    units = choose_units(paired.groups, np.array(paired.classes)[paired.targets], paired.cells)
    size = len(paired.classes)
    before, after = (
        balanced_accuracy(counts_without(paired.targets, probabilities.argmax(1), units, size))
        for probabilities in (paired.before, paired.after)
    )
    scatter = spread(after - before, units)
    if not scatter.error:
        scatter = Spread(_least_error(paired), scatter.freedom)
    return Difference(float(before[0]), float(after[0]), scatter, units)


def _least_error(paired: PairedPredictions) -> float:
    """Return the standard error where all groups agree: that of as many cells, with one more of each kind (Laplace).

    A cell may be right in the later model alone, in the earlier one alone, or alike in both. Of a cell with several
    images the first counts: the others say little that is new.
    """
    first = slice(None) if paired.cells is None else np.unique(paired.cells, return_index=True)[1]
    targets, size = paired.targets[first], len(paired.classes)
    before, after = (probabilities[first].argmax(1) == targets for probabilities in (paired.before, paired.after))
    cells = np.bincount(targets, minlength=size) + 3
    mended, broken = ((np.bincount(targets, rows, size) + 1) / cells for rows in (after & ~before, before & ~after))
    return float(np.sqrt(((mended + broken - (mended - broken) ** 2) / cells).sum())) / size
