"""What validation cells, which the network was not fitted on, teach about its answers.

Temperature (Guo et al. 2017), conformal sets by class (Vovk 2012: they keep their promise for any mixture of classes),
the distance above which a cell is unlike the training cells, and how wrong the composition of a culture stays however
many cells it has. Classes do not count by how many validation cells they have, but by the shares that the network takes
for granted (`prior`): the same, unless it was fitted on the training cells as they are (`train.balance: none`).

What is found on a network that has not seen the validation cells is handed to its refit on training and validation
cells together, as cross-conformal prediction does; `evaluate` shows on the test cells whether it holds there.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from fatescope.config import Calibrate
from fatescope.inference import composition
from fatescope.inference.ood import MahalanobisDetector
from pipelines.training.trainer import Predicted

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
_COLDEST, _HOTTEST = math.log(0.05), math.log(20.0)
MIXTURES = 200
"""Mixtures that are drawn from the validation cells to see how wrong their composition is estimated."""


@dataclass(frozen=True)
class Calibration:
    """How to read the logits and embeddings of a network."""

    temperature: float
    """What the logits are divided by."""
    conformal: list[float]
    """(K,) a class belongs to the set where its probability is at least this."""
    outlier_threshold: float
    """Distance above which a cell is unlike the training cells."""
    composition_error: Floats
    """(K, K) covariance of shares that more cells do not make smaller."""
    loss: float
    """Mean negative log-likelihood on the validation cells at that temperature, of an equal mixture of the classes."""
    balanced_accuracy: float
    """On the validation cells."""


def calibrate(
    fitted: tuple[Predicted, Indices],
    unseen: tuple[Predicted, Indices],
    groups: npt.NDArray[np.str_],
    prior: Floats,
    params: Calibrate,
) -> Calibration:
    """Calibrate a network on what it says of `unseen` cells of acquisition `groups`, given what it was `fitted` on."""
    (known, known_targets), (found, targets) = fitted, unseen
    factor = temperature(found.logits, targets, prior)
    probabilities = softmax(found.logits / factor, axis=1)
    scores = MahalanobisDetector.fit(known.embedding, known_targets, params.directions).score(found.embedding)
    called = found.logits.argmax(1)
    return Calibration(
        temperature=factor,
        conformal=conformal(probabilities, targets, params.coverage),
        outlier_threshold=upper(scores, 1 - params.false_alarm),
        composition_error=composition_error(probabilities, targets, groups, prior, params.seed),
        loss=equal_loss(found.logits / factor, targets, prior),
        balanced_accuracy=float(np.mean([(called == k)[targets == k].mean() for k in np.unique(targets)])),
    )


def temperature(logits: Floats, targets: Indices, prior: Floats) -> float:
    """Return what to divide (n, K) logits by so that `targets` in a mixture of the shares `prior` are most likely."""
    found = minimize_scalar(
        lambda power: negative_log_likelihood(logits / math.exp(power), targets, prior),
        bounds=(_COLDEST, _HOTTEST),
        method="bounded",
    )
    return math.exp(found.x)


def equal_loss(logits: Floats, targets: Indices, prior: Floats) -> float:
    """Return the negative log-likelihood, nats, in an equal mixture of the classes, of logits that are for `prior`.

    Candidates are chosen between by it, and their priors may differ: each would look best in its own mixture, and worse
    in one that it was not told of. So each is told of the same one, by Bayes' rule, and judged there.
    """
    equal = np.full(len(prior), 1 / len(prior))
    return negative_log_likelihood(logits - np.log(prior), targets, equal)


def negative_log_likelihood(logits: Floats, targets: Indices, shares: Floats) -> float:
    """Return the mean negative log-likelihood, nats, in a mixture where classes have the (K,) `shares`."""
    losses = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(targets)), targets]
    known = np.unique(targets)
    return float(np.average([losses[targets == k].mean() for k in known], weights=shares[known]))


def conformal(probabilities: Floats, targets: Indices, coverage: float) -> list[float]:
    """Return for each class the probability that `coverage` of its cells reach; 0 where there are too few to tell."""
    thresholds = []
    for k in range(probabilities.shape[1]):
        reached = np.sort(probabilities[targets == k, k])[::-1]
        place = math.ceil((len(reached) + 1) * coverage)
        thresholds.append(float(reached[place - 1]) if place <= len(reached) else 0.0)
    return thresholds


def upper(scores: Floats, share: float) -> float:
    """Return the score that `share` of cells stay below; the highest one where there are too few to tell."""
    place = math.ceil((len(scores) + 1) * share)
    return float(np.sort(scores)[min(place, len(scores)) - 1])


def composition_error(
    probabilities: Floats, targets: Indices, groups: npt.NDArray[np.str_], prior: Floats, seed: int
) -> Floats:
    """Return the (K, K) mean squared error of compositions that are estimated from the validation cells.

    A culture is mostly recorded in one run, so that the cells of a class are all of one acquisition group, drawn anew
    for each of the mixtures of random composition. What remains wrong is how one run differs from the next.
    """
    rng, size = np.random.default_rng(seed), probabilities.shape[1]
    total = np.zeros((size, size))
    for _ in range(MIXTURES):
        truth, weights = rng.dirichlet(np.ones(size)), np.zeros(len(targets))
        for k in np.unique(targets):
            group = rng.choice(np.unique(groups[targets == k]))
            rows = np.flatnonzero((targets == k) & (groups == group))
            weights[rows] = truth[k] / len(rows) * len(targets)
        found = composition.estimate(probabilities, prior, np.zeros((size, size)), weights).shares
        wrong = found - truth
        total += np.outer(wrong, wrong)
    error: Floats = total / MIXTURES
    return error
