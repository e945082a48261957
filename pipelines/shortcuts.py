"""What can be predicted without looking at the cell: descriptions of its surroundings, and how to score them.

`border` (the outer frame of the crop) and `masked` (all that lies away from the cell) cannot hold the cell, save for a
halo that reaches so far: only they can prove a shortcut. `crop` is the size, which an instrument may set by the cell,
so that it is never more than suspect. `intensity`, mean and spread of the whole crop, holds a trace of the cell: it
is reported, and accuses nobody.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pipelines.core.images import FRAME, border

Floats = npt.NDArray[np.floating]
Texts = npt.NDArray[np.str_]

CELL_FREE = ("border", "masked")
DESCRIPTIONS = (*CELL_FREE, "crop", "intensity")
_QUANTILES = np.linspace(0.1, 0.9, 5)
_STRONG = 0.1
"""What deviates by this share of the strongest pixels belongs to the cell; less would take noise for cell."""
_REACH = 6
"""How far around a cell its halo is masked as well, px."""
_ENOUGH = 20
"""Fewer pixels away from the cell say nothing; the border then stands for them."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def describe(crop: Floats) -> dict[str, Floats]:
    """Return each of DESCRIPTIONS of one native (H, W) crop, as a vector."""
    frame = border(crop).ravel()
    level = float(np.median(frame))
    return {
        "border": np.concatenate([_quantiles(frame), _sides(crop)]),
        "masked": _quantiles(_outside(crop, level)),
        "intensity": np.array([crop.mean(), crop.std()]),
        "crop": np.array(crop.shape, float),
    }


def _quantiles(values: Floats) -> Floats:
    return np.append(np.quantile(values, _QUANTILES), values.std())


def _sides(crop: Floats) -> Floats:
    """Return the mean of each side: how the lamp falls off across the crop."""
    return np.array([crop[:FRAME].mean(), crop[-FRAME:].mean(), crop[:, :FRAME].mean(), crop[:, -FRAME:].mean()])


def _outside(crop: Floats, level: float) -> Floats:
    """Return the pixels away from the cell: where nothing within _REACH px differs from the background by much."""
    deviation = np.abs(crop - level)
    strong = deviation > _STRONG * np.quantile(deviation, 0.98)
    outside = crop[~maximum_filter(strong, 2 * _REACH + 1)]
    return outside if outside.size >= _ENOUGH else border(crop).ravel()


def boosting(seed: int) -> HistGradientBoostingClassifier:
    """Return gradient boosting that also learns from a few dozen cells."""
    return HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=15,
        min_samples_leaf=5,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )


def linear(seed: int) -> object:
    """Return logistic regression on standardised figures."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, random_state=seed))


MODELS: dict[str, Callable[[int], object]] = {"boosting": boosting, "linear": linear}


def predict(
    features: Floats, labels: Texts, groups: Texts | None, model: Callable[[int], object], folds: int, seed: int
) -> Floats:
    """Return (N, K) probabilities of cells that the model was not fitted on, classes in sorted order.

    With `groups` no group is both fitted on and predicted, else the folds are random.
    """
    if groups is None:
        cuts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, labels)
    else:
        cuts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(features, labels, groups)
    classes = np.unique(labels)
    probabilities = np.zeros((len(labels), len(classes)))
    # One thread: tables this small are fitted no faster by two, and far slower where threads wait for a busy core.
    with threadpool_limits(1):
        for train, test in cuts:
            fitted = model(seed).fit(features[train], labels[train])  # type: ignore[attr-defined]
            # A fold of few groups may lack a class; it then gets no probability.
            columns = np.searchsorted(classes, fitted.classes_)
            probabilities[np.ix_(test, columns)] = fitted.predict_proba(features[test])
    return probabilities


def balanced_accuracy(called: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Return the (R,) mean share of each class that is called right, under (R, N) weights of cells."""
    right = called == truth
    shares = [
        (weights[:, (truth == k) & right].sum(1)) / np.maximum(weights[:, truth == k].sum(1), 1e-9)
        for k in np.unique(truth)
    ]
    mean: Floats = np.mean(shares, axis=0)
    return mean


def auc(scores: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the (R,) area under the ROC curve under (R, N) weights of cells; ties count half."""
    _, rank = np.unique(scores, return_inverse=True)
    levels = rank.max() + 1
    up = np.stack([np.bincount(rank[positive], w[positive], levels) for w in weights])
    down = np.stack([np.bincount(rank[~positive], w[~positive], levels) for w in weights])
    below = np.cumsum(down, axis=1) - down / 2
    area: Floats = (up * below).sum(1) / np.maximum(up.sum(1) * down.sum(1), 1e-9)
    return area


def resample(units: Texts, strata: Texts, repeats: int, seed: int) -> Floats:
    """Return (1 + R, N) weights: first all ones, then how often each cell's unit was drawn, within its stratum.

    Drawing whole acquisition groups, not cells, is what makes the interval honest (cluster bootstrap, Field and Welsh
    2007): cells of one group are not independent.
    """
    rng = np.random.default_rng(seed)
    weights = np.ones((1 + repeats, len(units)))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        names, index = np.unique(units[rows], return_inverse=True)
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=repeats)
        weights[1:, rows] = drawn[:, index]
    return weights


def interval(values: Floats) -> Interval:
    """Return the first value, with the 2.5 and 97.5 % quantiles of the others."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Interval(float(values[0]), float(low), float(high))
