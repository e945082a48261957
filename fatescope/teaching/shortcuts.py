"""Whether the labels can be told from how cells were acquired: what a head could learn instead of the cell.

The same regression that is taught to the head gets single descriptions of the acquisition, in the same folds. The
background is measured beside the cell, and so cannot say anything about it; brightness and focus are of the whole crop
and may be the cell's own. It is a warning, not the verdict of `pipelines.evaluation.group_audit`, which needs more
samples than a few labels come from.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fatescope.data.features import ACQUISITION
from fatescope.teaching.folds import Folds
from fatescope.teaching.lesson import Accuracy, Cells, measure
from fatescope.teaching.regression import fit

Indices = npt.NDArray[np.int64]

DESCRIPTIONS = {
    "background": ("background", "background_spread"),
    "brightness": ("mean", "spread", "darkest", "brightest", "saturation"),
    "focus": ("focus",),
}
"""Description → features of the acquisition."""
BESIDE_CELL = "background"
"""The description that cannot contain the cell."""
PENALTY = 1e-3
VISIBLE = 0.15
"""Balanced accuracy above chance from which a description is worth a warning."""


@dataclass(frozen=True)
class Shortcut:
    """What one description of the acquisition says of the labels."""

    description: str
    accuracy: Accuracy
    chance: float
    suspicious: bool
    """Whether it tells the classes apart so well that the head may have learned it instead of the cell."""

    @property
    def words(self) -> str:
        """Return what was found as a sentence."""
        share = f"{self.accuracy.value:.0%} (chance {self.chance:.0%})"
        if not self.suspicious:
            return f"The {self.description} alone hardly tells the classes apart: {share}."
        beside = (
            "It is measured beside the cell, so that the samples of the classes were recorded differently"
            if self.description == BESIDE_CELL
            else "It may be the cell's own, or how its sample was recorded"
        )
        return (
            f"The {self.description} alone tells the classes apart in {share}. {beside}; label cells of both classes "
            "from the same runs."
        )


def audit(cells: Cells, targets: Indices, classes: list[str], folds: Folds) -> list[Shortcut]:
    """Return what each description of the acquisition says of the (N,) `targets` of labelled cells."""
    found = []
    for description, names in DESCRIPTIONS.items():
        columns = [
            start + ACQUISITION.index(name)
            for start in range(0, cells.acquisition.shape[1], len(ACQUISITION))
            for name in names
        ]
        points = _standardise(cells.acquisition[:, columns])
        called = np.zeros(len(targets), np.int64)
        for fold in folds.names:
            held = folds.place == fold
            linear = fit(points[~held], targets[~held], len(classes), PENALTY)
            called[held] = linear.logits(points[held]).argmax(1)
        accuracy, chance = measure(called, targets, cells.samples, classes, folds), 1 / len(classes)
        above = accuracy.low is None or accuracy.low > chance
        found.append(Shortcut(description, accuracy, chance, above and accuracy.value >= chance + VISIBLE))
    return found


def _standardise(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return squares and values of (N, A) features, so that a class in the middle of another can be told as well."""
    scaled = np.asarray((values - values.mean(0)) / np.maximum(values.std(0), 1e-9), np.float64)
    both = np.concatenate([scaled, np.minimum(scaled**2, 9.0) - 1], axis=1)
    points: npt.NDArray[np.float64] = both / np.sqrt(both.shape[1])
    return points
