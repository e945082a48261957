"""Teach a head from labels, and say how right it is by cross-validation over samples.

The accuracy is that of the whole procedure: in each fold, coordinates, design and penalty are chosen anew by the
samples that are left (nested cross-validation), and the cells that are left out have taken part in nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fatescope import plural
from fatescope.errors import DataError
from fatescope.inference import accuracy
from fatescope.teaching.folds import Folds, assign
from fatescope.teaching.head import DESIGNS, Choice, Design, Head, Space, choose
from fatescope.teaching.regression import balanced, fit, log_probabilities

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]

MIN_LABELS = 5
"""Labels that each class needs."""
MAX_CLASSES = 50
"""Most classes: the time of a lesson grows with them, and a slip of the keyboard makes a new one."""
MIN_SAMPLES = 3
"""Samples of each class that an interval needs."""
INNER_FOLDS = 3
"""Folds in which design and penalty are chosen within a fold."""
_LOG_BOUNDS = math.log(0.05), math.log(20.0)
"""Bounds of the logarithm of the temperature."""
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Cells:
    """What is known of N cells before they are taught: no pixels."""

    embedding: Floats
    """(N, C)"""
    features: Floats
    """(N, F) `features.cell` of each channel."""
    acquisition: Floats
    """(N, A) `features.acquisition` of each channel."""
    samples: Texts
    """(N,)"""

    def among(self, rows: Indices | npt.NDArray[np.bool_]) -> "Cells":
        """Return some of the cells."""
        return Cells(self.embedding[rows], self.features[rows], self.acquisition[rows], self.samples[rows])


@dataclass(frozen=True)
class Accuracy:
    """The balanced accuracy of cells that were left out, with a 95 % interval over samples."""

    value: float
    low: float | None
    high: float | None
    why: str | None
    """Why there is no interval."""
    recalls: Floats
    """(K,)"""


@dataclass(frozen=True)
class Lesson:
    """A head, and how right it is."""

    classes: list[str]
    head: Head
    temperature: float
    """By which the logits of the head are divided already."""
    left_out: Floats
    """(N, K) log probabilities of each labelled cell by a head that did not know it, at that temperature."""
    targets: Indices
    """(N,)"""
    folds: Folds
    accuracy: Accuracy
    choices: list[Choice]
    """The designs, the best first."""
    simple: Accuracy
    """The same of features alone."""


def teach(
    cells: Cells, labels: Texts, classes: list[str] | None = None, designs: tuple[Design, ...] = DESIGNS
) -> Lesson:
    """Teach a head the (N,) `labels` of N cells; `classes` are in the order of the logits, by default sorted.

    `designs` are those among which it is chosen; `features` alone is measured in any case.
    Raises DataError for fewer than two classes, more than MAX_CLASSES, or fewer than MIN_LABELS labels of one.
    """
    names = classes or sorted(set(labels.tolist()))
    _check(labels, names)
    targets = np.array([names.index(label) for label in labels.tolist()], np.int64)
    space = Space.of(cells.embedding, cells.features)
    points = _points(space, cells, designs)
    folds = assign(targets, cells.samples, names)
    raw, simple = _leave_out(cells, targets, names, folds, designs)
    choices = _wanted(choose(points, targets, len(names), folds, np.arange(len(targets))), designs)
    best = choices[0]
    head = Head.of(fit(points[best.design], targets, len(names), best.penalty), best.design, space)
    temperature = _temperature(raw, targets, len(names))
    return Lesson(
        names,
        head.cooled(temperature),
        temperature,
        log_probabilities(raw / temperature),
        targets,
        folds,
        measure(raw.argmax(1), targets, cells.samples, names, folds),
        choices,
        measure(simple.argmax(1), targets, cells.samples, names, folds),
    )


def _check(labels: Texts, classes: list[str]) -> None:
    if len(classes) < 2:
        raise DataError(
            f"labels of {plural.count(len(classes), 'class', 'classes')}; label cells of two classes at least"
        )
    if len(classes) > MAX_CLASSES:
        raise DataError(f"labels of {len(classes)} classes, and at most {MAX_CLASSES} are taught; merge some")
    if strange := set(labels.tolist()) - set(classes):
        raise DataError(f"the label '{min(strange)}' is none of the classes {classes}")
    for name in classes:
        count = int((labels == name).sum())
        if count < MIN_LABELS:
            has = plural.count(count, "label")
            raise DataError(f"'{name}' has {has}; each class needs {MIN_LABELS} at least, and 50 are better")


def _points(space: Space, cells: Cells, designs: tuple[Design, ...]) -> dict[Design, npt.NDArray[np.float64]]:
    """Return the coordinates of cells in each of the designs, and in that of features alone."""
    return {design: space.points(cells.embedding, cells.features, design) for design in {*designs, "features"}}


def _leave_out(
    cells: Cells, targets: Indices, classes: list[str], folds: Folds, designs: tuple[Design, ...]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the (N, K) logits of each cell by a head that did not know its fold, and those by features alone."""
    size = len(classes)
    chosen, simple = np.zeros((len(targets), size)), np.zeros((len(targets), size))
    for fold in folds.names:
        held = folds.place == fold
        train = np.flatnonzero(~held)
        points = _points(Space.of(cells.embedding[train], cells.features[train]), cells, designs)
        inner = assign(targets[train], cells.samples[train], classes, seed=1, most=INNER_FOLDS)
        choices = choose(points, targets, size, inner, train)
        for target, choice in (
            (chosen, _wanted(choices, designs)[0]),
            (simple, _wanted(choices, ("features",))[0]),
        ):
            of_all = points[choice.design]
            target[held] = fit(of_all[train], targets[train], size, choice.penalty).logits(of_all[held])
    return chosen, simple


def _wanted(choices: list[Choice], designs: tuple[Design, ...]) -> list[Choice]:
    return [choice for choice in choices if choice.design in designs]


def measure(called: Indices, targets: Indices, samples: Texts, classes: list[str], folds: Folds) -> Accuracy:
    """Return the balanced accuracy of cells that were called by heads which did not know them.

    The interval is a jackknife over samples with Student's t, on the scale of normal quantiles (Shao and Tu 1995), as
    that of `pipelines.evaluation.intervals`; there is none where a class has fewer than MIN_SAMPLES samples.
    """
    size = len(classes)
    names, unit = np.unique(samples, return_inverse=True)
    right, counts = np.zeros((len(names), size)), np.zeros((len(names), size))
    np.add.at(counts, (unit, targets), 1.0)
    np.add.at(right, (unit, targets), (called == targets).astype(float))
    recalls = right.sum(0) / counts.sum(0)
    value = float(recalls.mean())
    if folds.kind == "cells":
        return Accuracy(value, None, None, f"{folds.why}: what holds for other samples cannot be told", recalls)
    held = (counts > 0).sum(0)
    if held.min() < MIN_SAMPLES:
        name = classes[int(held.argmin())]
        why = f"'{name}' has labels in {plural.count(int(held.min()), 'sample')}, and an interval needs {MIN_SAMPLES}"
        return Accuracy(value, None, None, why, recalls)
    without = ((right.sum(0) - right) / (counts.sum(0) - counts)).mean(1)
    variance, freedom = _jackknife(without, counts > 0)
    if variance == 0:
        return Accuracy(value, None, None, "every sample gives the same value", recalls)
    low, high = accuracy.interval(value, accuracy.student(freedom) * math.sqrt(variance))
    return Accuracy(value, low, high, None, recalls)


def _jackknife(without: Floats, holds: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the variance of a value from (U,) values without each unit, and its degrees of freedom.

    Units that hold the same classes, by the rows of `holds`, are a stratum; all are one where some stratum has one.
    """
    stratum = np.unique(holds, axis=0, return_inverse=True)[1].ravel()
    if np.bincount(stratum).min() < 2:
        stratum = np.zeros(len(without), np.int64)
    parts = []
    for number in np.unique(stratum):
        values = without[stratum == number]
        parts.append(((len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum(), len(values) - 1))
    total = float(sum(part for part, _ in parts))
    if total == 0:
        return 0.0, 1.0
    # Welch 1947. The expansion of Student's t holds from two degrees of freedom on.
    return total, max(2.0, total**2 / float(sum(part**2 / freedom for part, freedom in parts)))


def _temperature(logits: npt.NDArray[np.float64], targets: Indices, classes: int) -> float:
    """Return the divisor of (N, K) logits that makes `targets` most likely, by a golden-section search."""
    weights, rows = balanced(targets, classes), np.arange(len(targets))

    def loss(power: float) -> float:
        return -float(weights @ log_probabilities(logits / math.exp(power))[rows, targets])

    low, high = _LOG_BOUNDS
    while high - low > 1e-3:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
