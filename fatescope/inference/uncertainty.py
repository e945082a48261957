"""What a model says of cells, and how far to trust it."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from fatescope.inference.ood import Outliers

SURE, UNSURE, UNLIKE = "sure", "unsure", "unlike_training"
"""Verdicts on a cell: one class is left in its conformal set, several are, or it is unlike all training cells."""
VERDICTS = (SURE, UNSURE, UNLIKE)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """What a model says of B cells."""

    logits: Floats
    """(B, K)"""
    embedding: Floats
    """(B, C)"""
    activation_map: Floats
    """(B, K, h, w)"""

    @property
    def probabilities(self) -> Floats:
        """Return (B, K) probabilities: the softmax of the logits."""
        return softmax(self.logits)


@dataclass(frozen=True)
class Judgement:
    """What is made of a prediction for B cells."""

    probabilities: Floats
    """(B, K), calibrated."""
    sets: npt.NDArray[np.bool_]
    """(B, K) the conformal set; the most probable class is always in it."""
    distance: Floats
    """(B,) from the training cells, over the distance above which a cell is unlike them."""
    verdicts: npt.NDArray[np.str_]
    """(B,) SURE, UNSURE or UNLIKE."""

    @classmethod
    def joined(cls, parts: list["Judgement"]) -> "Judgement":
        """Return the judgements of several batches as one."""
        names = (each.name for each in fields(cls))
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def judge(prediction: Prediction, conformal: list[float], threshold: float, outliers: Outliers) -> Judgement:
    """Say how far to trust a prediction, by the `conformal` and the outlier `threshold` of its model (see Spec)."""
    return conclude(prediction.probabilities, measure(prediction, threshold, outliers), conformal)


def measure(prediction: Prediction, threshold: float, outliers: Outliers) -> Floats:
    """Return how far each of B cells lies from the training cells, over the outlier `threshold` of its model."""
    return outliers.score(prediction.embedding) / np.float32(threshold)


def conclude(probabilities: Floats, distance: Floats, conformal: list[float]) -> Judgement:
    """Make of (B, K) `probabilities` and the (B,) `distance` what a Judgement says."""
    sets = probabilities >= np.array(conformal, np.float32)
    sets[np.arange(len(sets)), probabilities.argmax(1)] = True
    verdicts = np.where(distance > 1, UNLIKE, np.where(sets.sum(1) > 1, UNSURE, SURE))
    return Judgement(probabilities, sets, distance, verdicts)


def softmax(logits: Floats) -> Floats:
    """Return the (B, K) probabilities of (B, K) logits."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: Floats = powers / powers.sum(axis=1, keepdims=True)
    return share
