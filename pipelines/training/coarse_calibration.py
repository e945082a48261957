"""Choose from which probability an unsure cell is called by a coarse class, such as neuron, on unseen cells.

Conformal sets promise something of all cells, not of those that get a certain answer: where few cells are called, most
of the calls may be wrong. What somebody who reads "neuron" relies on is how often that answer is right. So a coarse
class is called from the lowest of STEPS for which, among the unseen cells of calibration (`cross_fit`),

- at least `coverage` of its calls are right, as the lower end of an interval says (`LEVEL`, `lower_end`). How often an
  answer is right depends on what the culture is made of; this holds for the mixture that the cells of calibration are;
- of the cells of each other class at most 1 - `coverage` are called so. That holds for any mixture: it is the bound of
  conformal risk control (Angelopoulos et al. 2024), where the cell in question counts as one more that is called.

A coarse class with which no step does both is not called. Ten steps and not every probability, so that none is
good by the luck of many tries; simulations in the tests hold both promises.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import softmax

from fatescope.inference.uncertainty import UNSURE, Assessment, assess, best_coarse
from pipelines.evaluation import intervals
from pipelines.evaluation.intervals import Units
from pipelines.training.calibration import Calibration
from pipelines.training.cross_fit import Unseen

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LEVEL = 0.7
"""Of the interval: in 17 of 20 trainings calls of new runs are right as often as its lower end says. With 0.95 hardly a
cell of a thousand is called by a coarse class, where nine in ten calls would have been right of many more."""
MIN_GROUPS = 8
"""Fewest acquisition groups of each class, for which these alone tell how far groups of the class differ."""
STEPS = [step / 100 for step in range(50, 100, 5)]
"""Probabilities that a threshold is chosen from."""


def assess_unseen(unseen: Unseen, calibration: Calibration) -> Assessment:
    """Return how reliable the model says that its answers for `unseen` cells are."""
    probabilities = softmax(unseen.logits / calibration.temperature, axis=1).astype(np.float32)
    return assess(probabilities, unseen.distance / np.float32(calibration.outlier_threshold), calibration.conformal)


def fit_thresholds(
    assessment: Assessment,
    targets: Indices,
    groups: npt.NDArray[np.generic],
    classes: list[str],
    hierarchy: dict[str, list[str]],
    coverage: float,
) -> dict[str, float]:
    """Return coarse class → the probability from which it is called, without those that are never to be.

    `assessment` is of n unseen cells, of the (n,) classes `targets` and acquisition `groups`.
    """
    numbers, sums = best_coarse(assessment.probabilities, classes, hierarchy)
    units, thresholds = count_units(groups, np.array(classes)[targets]), dict[str, float]()
    for number, (name, members) in enumerate(hierarchy.items()):
        asked = (numbers == number) & (assessment.verdicts == UNSURE)
        right = np.isin(targets, [classes.index(member) for member in members])
        for step in STEPS:
            called = asked & (sums >= step)
            if (
                1 - _most_of_another(called, right, targets) >= coverage
                and lower_end(right[called], units.among(called)) >= coverage
            ):
                thresholds[name] = step
                break
    return thresholds


def count_units(groups: npt.NDArray[np.generic], labels: npt.NDArray[np.str_]) -> Units:
    """Return the (n,) acquisition `groups` of cells with `labels` as units for `lower_end`.

    Of few groups of a class, those tell too little of how far others are off. Then the groups of all classes are
    compared with each other, which makes the interval wider than it need be.
    """
    units = intervals.choose_units(groups.astype(str), labels)
    return units if units.fewest >= MIN_GROUPS else replace(units, stratum=np.zeros_like(units.stratum))


def lower_end(right: Mask, units: Units) -> float:
    """Return the lower end of the interval (`LEVEL`) of the share of n calls that are `right`; 0 where none is.

    The lower of two: that of the exact interval for cells that are right or wrong by themselves (Clopper and Pearson
    1934), and that of a jackknife over `units`, which alone would be sure that all calls are right where those of
    calibration are.
    """
    count, correct = len(right), int(right.sum())
    if not correct:
        return 0.0
    exact = float(stats.beta.ppf((1 - LEVEL) / 2, correct, count - correct + 1))
    calls, hits = units.sums(), units.sums(right.astype(float))
    values = np.append(hits.sum(), hits.sum() - hits) / np.maximum(np.append(calls.sum(), calls.sum() - calls), 1)
    return min(exact, intervals.interval(values, units, level=LEVEL).low)


def _most_of_another(called: Mask, right: Mask, targets: Indices) -> float:
    """Return the largest share of another class whose cells are `called` so, with one more cell that is."""
    others = [called[targets == k] for k in np.unique(targets[~right])]
    return max(((of_class.sum() + 1) / (len(of_class) + 1) for of_class in others), default=0.0)
