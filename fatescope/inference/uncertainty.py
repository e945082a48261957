"""Predictions for cells, and how reliable each is: conformal set, distance from the training cells, verdict.

A task may join its classes to coarse ones, such as neurons and glia (`dataset.hierarchy`). A cell whose class is unsure
may still be called by one of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fatescope.inference.ood import MahalanobisDetector

SURE, UNSURE, UNLIKE = "sure", "unsure", "unlike_training"
"""Verdicts on a cell: its conformal set has one class; it has several; or the cell is unlike all training cells."""
VERDICTS = (SURE, UNSURE, UNLIKE)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """The outputs of a model for B cells."""

    logits: Floats
    """(B, K)"""
    embedding: Floats
    """(B, C)"""
    activation_map: Floats
    """(B, K, h, w); (B, K, 0, 0) where it was not asked for."""

    @classmethod
    def of(cls, logits: Floats, embedding: Floats, activation_map: Floats | None = None) -> "Prediction":
        """Return a prediction from the outputs of a network, whose activation maps may be left out."""
        if activation_map is None:
            activation_map = np.empty((*logits.shape, 0, 0), np.float32)
        return cls(logits, embedding, activation_map)

    @classmethod
    def concatenate(cls, parts: list["Prediction"]) -> "Prediction":
        """Return the predictions for several batches as one."""
        if len(parts) == 1:
            return parts[0]
        names = (field.name for field in fields(cls))
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def head(self, cells: int) -> "Prediction":
        """Return the prediction for the first `cells` only."""
        return Prediction(self.logits[:cells], self.embedding[:cells], self.activation_map[:cells])

    @property
    def probabilities(self) -> Floats:
        """Return (B, K) probabilities: the softmax of the logits."""
        return softmax(self.logits)


@dataclass(frozen=True)
class Assessment:
    """How reliable the predictions for B cells are."""

    probabilities: Floats
    """(B, K), calibrated."""
    sets: npt.NDArray[np.bool_]
    """(B, K) Whether the conformal set contains the class; it always contains the most probable one."""
    distance: Floats
    """(B,) Distance from the training cells, divided by that above which a cell is unlike them."""
    verdicts: npt.NDArray[np.str_]
    """(B,) SURE, UNSURE or UNLIKE."""

    @classmethod
    def concatenate(cls, parts: list["Assessment"]) -> "Assessment":
        """Return the assessments of several batches as one."""
        names = (field.name for field in fields(cls))
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def assess_prediction(
    prediction: Prediction, conformal: list[float], threshold: float, outliers: MahalanobisDetector
) -> Assessment:
    """Assess the prediction of a model with the `conformal` and outlier `threshold` of its spec."""
    return assess(prediction.probabilities, ood_distance(prediction, threshold, outliers), conformal)


def ood_distance(prediction: Prediction, threshold: float, outliers: MahalanobisDetector) -> Floats:
    """Return (B,) distances from the training cells, relative to the outlier `threshold` of the model."""
    return outliers.score(prediction.embedding) / np.float32(threshold)


def assess(probabilities: Floats, distance: Floats, conformal: list[float]) -> Assessment:
    """Derive conformal sets and verdicts from (B, K) `probabilities` and (B,) `distance`.

    A class belongs to the set where its probability reaches its (K,) `conformal` threshold (class-conditional split
    conformal prediction, Vovk 2012); the most probable class always does.
    """
    sets = probabilities >= np.array(conformal, np.float32)
    sets[np.arange(len(sets)), probabilities.argmax(1)] = True
    verdicts = np.where(distance > 1, UNLIKE, np.where(sets.sum(1) > 1, UNSURE, SURE))
    return Assessment(probabilities, sets, distance, verdicts)


class CoarseCall(NamedTuple):
    """A coarse class that a cell is called by."""

    label: str
    probability: float
    """The sum of those of its classes."""


def best_coarse(
    probabilities: Floats, classes: Sequence[str], hierarchy: Mapping[str, Sequence[str]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the (B,) numbers in `hierarchy` of the coarse classes of the most probable classes, and their probability.

    The number is -1, and the probability 0, where the most probable class is of no coarse class. `classes` are those of
    the columns of the (B, K) `probabilities`; that of a coarse class is the sum of those of its classes.
    """
    numbers, sums = np.full(len(probabilities), -1), np.zeros(len(probabilities))
    best = probabilities.argmax(1)
    for number, members in enumerate(hierarchy.values()):
        joined = np.isin(classes, list(members))
        rows = joined[best]
        numbers[rows] = number
        sums[rows] = probabilities[np.ix_(rows, joined)].sum(1, dtype=np.float64)
    # Rounding must not make a probability of more than 1.
    return numbers, np.minimum(sums, 1)


def coarse_calls(
    assessment: Assessment,
    classes: Sequence[str],
    hierarchy: Mapping[str, Sequence[str]],
    thresholds: Mapping[str, float] | None,
) -> list[CoarseCall | None]:
    """Return for each of the B cells the coarse class of `hierarchy` that it is called by.

    That is the coarse class of its most probable class, for a cell that is sure of that class, and for one that is not
    where the coarse class reaches its probability in `thresholds`, which has those that may be called. What such calls
    promise, the thresholds were chosen for (`Spec.coarse_thresholds`). Where a model has none (None), an unsure cell is
    called where the coarse class has all classes of the conformal set. None for other cells, and for those unlike the
    training cells. `classes` are those of the columns of the assessment.
    """
    if not hierarchy:
        return [None] * len(assessment.verdicts)
    names = list(hierarchy)
    numbers, sums = best_coarse(assessment.probabilities, classes, hierarchy)
    if thresholds is None:
        joined = np.array([np.isin(classes, list(members)) for members in hierarchy.values()])
        called = ~(assessment.sets & ~joined[numbers]).any(1)
    else:
        called = (assessment.verdicts == SURE) | (sums >= np.array([thresholds.get(k, np.inf) for k in names])[numbers])
    called &= (numbers >= 0) & (assessment.verdicts != UNLIKE)
    return [
        CoarseCall(names[number], probability) if is_called else None
        for number, probability, is_called in zip(numbers.tolist(), sums.tolist(), called.tolist(), strict=True)
    ]


def softmax(logits: Floats) -> Floats:
    """Return the (B, K) probabilities of (B, K) logits."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: Floats = powers / powers.sum(axis=1, keepdims=True)
    return share
