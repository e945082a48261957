"""Calibrate a model on what cross-fitted networks say of the training and validation cells (`cross_fit`).

The temperature (Guo et al. 2017), conformal sets by class (Vovk 2012: their coverage holds for any mixture of classes),
the distance above which a cell is unlike the training cells, and the error of a culture's composition that more cells
do not reduce. For the temperature, classes are weighted by the shares that the network's probabilities assume
(`prior`), not by their number of cells; the shares are equal, unless the network was trained on the classes as they are
(`train.balance: none`). The distance counts every cell once.

The refit on all these cells takes the calibration of networks that were trained for as many steps, under the same
schedule, on all groups but those that they were asked for; `evaluate` shows on the test cells whether it holds there.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from fatescope.config import Calibrate
from fatescope.data.tracks import Tracks
from fatescope.inference import accuracy, composition
from fatescope.inference.thresholds import conformal, upper_quantile
from fatescope.inference.track_evidence import TrackEvidence
from pipelines.training.cross_fit import Unseen
from pipelines.training.track_calibration import fit_evidence

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
_LOG_BOUNDS = (math.log(0.05), math.log(20.0))
"""Bounds of the logarithm of the temperature."""


@dataclass(frozen=True)
class Calibration:
    """What turns the logits and embeddings of a network into probabilities and verdicts."""

    temperature: float
    """The divisor of the logits."""
    conformal: list[float]
    """(K,) a class is in the conformal set of a cell whose probability of it is at least this."""
    outlier_threshold: float
    """Distance in the space of embeddings above which a cell is unlike the training cells."""
    composition_error: Floats
    """(K, K) covariance of the shares of a culture that more cells do not reduce."""
    accuracy_error: accuracy.Error | None
    """How far estimates of the accuracy without labels are off; None where too few groups tell it."""
    loss: float
    """Mean negative log-likelihood of the unseen cells at that temperature, all classes weighted equally."""
    balanced_accuracy: float
    """On the unseen cells."""
    tracks: TrackEvidence | None = None
    """How several images of a cell add up; None where too few cells have several."""


def calibrate(
    unseen: Unseen,
    targets: Indices,
    groups: npt.NDArray[np.generic],
    prior: Floats,
    params: Calibrate,
    tracks: Tracks | None = None,
) -> Calibration:
    """Calibrate a model on what it says of n `unseen` cells, of (n,) classes `targets` and acquisition `groups`.

    `tracks` tells which of them are images of one cell.
    """
    divisor = temperature(unseen.logits, targets, prior)
    probabilities = softmax(unseen.logits / divisor, axis=1)
    called = unseen.logits.argmax(1)
    threshold = upper_quantile(unseen.distance, 1 - params.false_alarm)
    return Calibration(
        temperature=divisor,
        conformal=conformal(probabilities, targets, params.coverage),
        outlier_threshold=threshold,
        composition_error=composition.learn_error(probabilities, targets, groups, prior, params.seed),
        accuracy_error=accuracy.learn_error(probabilities, targets, groups, prior, params.seed),
        loss=balanced_loss(unseen.logits / divisor, targets, prior),
        balanced_accuracy=float(np.mean([(called == k)[targets == k].mean() for k in np.unique(targets)])),
        tracks=None
        if tracks is None
        else fit_evidence(probabilities, unseen.distance <= threshold, targets, tracks, prior),
    )


def temperature(logits: Floats, targets: Indices, prior: Floats) -> float:
    """Return the divisor of (n, K) logits that makes `targets`, in a mixture of the shares `prior`, most likely."""
    minimum = minimize_scalar(
        lambda power: negative_log_likelihood(logits / math.exp(power), targets, prior),
        bounds=_LOG_BOUNDS,
        method="bounded",
    )
    return math.exp(minimum.x)


def balanced_loss(logits: Floats, targets: Indices, prior: Floats) -> float:
    """Return the negative log-likelihood, nats, in an equal mixture of the classes, of logits that assume `prior`.

    It compares candidates whose priors may differ. Each would look best in the mixture that it assumes, so that all are
    moved to the same one, by Bayes' rule.
    """
    equal = np.full(len(prior), 1 / len(prior))
    return negative_log_likelihood(logits - np.log(prior), targets, equal)


def negative_log_likelihood(logits: Floats, targets: Indices, shares: Floats) -> float:
    """Return the mean negative log-likelihood, nats, in a mixture where classes have the (K,) `shares`."""
    losses = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(targets)), targets]
    known = np.unique(targets)
    return float(np.average([losses[targets == k].mean() for k in known], weights=shares[known]))
