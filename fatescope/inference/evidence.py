"""Evidence that a model is less right than promised, which may be looked at as often as one likes.

Each label is a bet against the promise: capital grows where cells of a class are wrong more often than they may be. If
the promise is kept, the capital is, at whatever moment one looks, above 1 / level with a chance of at most `level`
(Ville 1939; betting: Waudby-Smith and Ramdas 2024; weighted draws without replacement: Shekhar et al. 2023). There is
a bet on each class and each recall that it may have; those on a balanced accuracy are what is left when recalls with
that mean are chosen so as to be most favourable to the model. Bets begin anew with every batch of labels and share the
stake, so that a long good time does not hide a change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fatescope.inference.labelling import UNIFORM

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.integer]

LEVEL = 0.01
"""Chance of a false alarm, however many looks there are."""
STEP = 0.005
"""Between the recalls on which there are bets."""
_RECALLS = np.arange(0, 1, STEP)
_STAKES = np.array([0.1, 0.25, 0.5, 0.9])
"""Shares of the most that a bet may risk; the capital is divided equally among them."""
_MOST = 1 + 1 / UNIFORM
"""Largest weight of a label."""


@dataclass(frozen=True)
class Answers:
    """Labels of the first m cells of a batch, in the order in which they were drawn."""

    predicted: Indices
    """(m,) the predicted classes."""
    targets: Indices
    """(m,) the classes according to a person, negative where they could not tell."""
    sizes: Floats
    """(m,) as in `labelling.Draw`."""
    cells: int
    """Cells of the batch."""


def evidence(batches: Sequence[Answers], classes: int, floor: float) -> float:
    """Return the natural logarithm of the evidence that the balanced accuracy is below `floor`; alarm from -ln(LEVEL).

    The batches are in the order of time.
    """
    return weigh([gains_of(batch, classes) for batch in batches], floor)


def weigh(batches: Sequence[Floats], floor: float) -> float:
    """Return the evidence of batches whose gains are known, as `evidence` does."""
    if not batches:
        return 0.0
    gains = np.stack(batches)
    # The j-th bet has the stake 1 / (j (j + 1)), which add up to one, and sees the batches from the j-th on.
    since = np.cumsum(gains[::-1], axis=0)[::-1]
    number = np.arange(1, len(batches) + 1)
    bets = np.array([_most_favourable(_log_mean(each), floor) for each in since]) - np.log(number * (number + 1.0))
    # What is staked on later batches is still there.
    return float(np.logaddexp.reduce([*bets, -np.log(len(batches) + 1.0)]))


def gains_of(batch: Answers, classes: int) -> Floats:
    """Return (K, R, S) logarithms of the gains of bets against each recall, by class and stake."""
    left = 1 - np.concatenate([[0.0], np.cumsum(batch.sizes)[:-1]])
    weights = np.maximum(left, 0) / (batch.sizes * batch.cells)
    total = np.zeros((classes, len(_RECALLS), len(_STAKES)))
    for k in range(classes):
        true = (batch.targets == k).astype(float)
        right = true * (batch.predicted == k)
        # What is known of the batch counts as it is; the next cell stands for what is left.
        of_class, hits = ((np.cumsum(values) - values) / batch.cells + weights * values for values in (true, right))
        edge = (np.outer(of_class, _RECALLS) - hits[:, None]) / ((1 - _RECALLS) * _MOST)
        total[k] = np.log1p(edge[..., None] * _STAKES).sum(0)
    return total


def _log_mean(gains: Floats) -> Floats:
    """Return the (K, R) logarithms of the capital, whose stakes are equal."""
    mean: Floats = np.logaddexp.reduce(gains, axis=-1) - np.log(len(_STAKES))
    return mean


def _most_favourable(capital: Floats, floor: float) -> float:
    """Return the least sum of (K, R) logarithms over recalls, one a class, whose mean is `floor`."""
    classes = len(capital)
    # Capital grows with the recall: rounded down, it is no more than that of the recalls themselves.
    target = int(np.floor(floor * classes / STEP + 1e-9)) - (classes - 1)
    if target < 0:
        return 0.0
    least, last = capital[0], capital[-1]
    if classes == 1:
        return float(least[min(target, len(least) - 1)])
    for row in capital[1:-1]:
        sums = np.full(len(least) + len(row) - 1, np.inf)
        for place, value in enumerate(row):
            part = sums[place : place + len(least)]
            np.minimum(part, least + value, out=part)
        least = sums
    # The least is where the mean is no higher than it has to be.
    target = min(target, len(least) + len(last) - 2)
    of_last = np.arange(max(0, target - len(least) + 1), min(target, len(last) - 1) + 1)
    return float((least[target - of_last] + last[of_last]).min())
