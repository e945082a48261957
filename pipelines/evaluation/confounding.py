"""What predicts the class without looking at the cell: descriptions of the acquisition, and models on them.

`border` (the outer frame of the crop) and `masked` (all pixels away from the cell) cannot contain the cell, except for
a halo that reaches that far: only they can prove a shortcut. `crop` is the size of the crop, which an instrument may
choose by the cell, so it never raises more than suspicion. `intensity`, mean and standard deviation of the whole crop,
contains a trace of the cell: it is reported, but not held against a pair of classes.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from fatescope.data.crops import FRAME, border

Floats = npt.NDArray[np.floating]
Texts = npt.NDArray[np.str_]

CELL_FREE = ("border", "masked")
"""Descriptions that cannot contain the cell."""
CROP, INTENSITY = "crop", "intensity"
DESCRIPTIONS = (*CELL_FREE, CROP, INTENSITY)
_CHANNEL = ", channel "
_QUANTILES = np.linspace(0.1, 0.9, 5)
_CELL_DEVIATION = 0.1
"""Pixels that deviate by this share of the strongest ones belong to the cell; a lower share would include noise."""
_HALO_PX = 6
"""How far around a cell its halo is masked as well."""
_MIN_PIXELS = 20
"""With fewer pixels away from the cell, the border stands in for them."""


def describe(crop: Floats) -> dict[str, Floats]:
    """Return each of DESCRIPTIONS of one native (H, W) crop, as a vector."""
    frame = border(crop).ravel()
    level = float(np.median(frame))
    return {
        "border": np.concatenate([_quantiles(frame), _sides(crop)]),
        "masked": _quantiles(crop[outside(crop, level)]),
        INTENSITY: np.array([crop.mean(), crop.std()]),
        CROP: np.array(crop.shape, float),
    }


def in_channel(description: str, channel: str) -> str:
    """Return the name of a description of another channel than the first."""
    return f"{description}{_CHANNEL}{channel}"


def kind_of(description: str) -> str:
    """Return the name of a description without the channel."""
    return description.partition(_CHANNEL)[0]


def _quantiles(values: Floats) -> Floats:
    return np.append(np.quantile(values, _QUANTILES), values.std())


def _sides(crop: Floats) -> Floats:
    """Return the mean of each side, which shows how the illumination falls off across the crop."""
    return np.array([crop[:FRAME].mean(), crop[-FRAME:].mean(), crop[:, :FRAME].mean(), crop[:, -FRAME:].mean()])


def outside(crop: Floats, level: float) -> npt.NDArray[np.bool_]:
    """Return which pixels (H, W) are away from the cell: none within _HALO_PX differs much from the background."""
    deviation = np.abs(crop - level)
    strong = deviation > _CELL_DEVIATION * np.quantile(deviation, 0.98)
    away: npt.NDArray[np.bool_] = ~maximum_filter(strong, 2 * _HALO_PX + 1)
    if away.sum() >= _MIN_PIXELS:
        return away
    frame = np.ones(crop.shape, bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    return frame


def boosting(seed: int) -> HistGradientBoostingClassifier:
    """Return gradient boosting with leaves small enough to learn from a few dozen cells."""
    return HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=15,
        min_samples_leaf=5,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )


def linear(seed: int) -> object:
    """Return logistic regression on standardised features."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, random_state=seed))


MODELS: dict[str, Callable[[int], object]] = {"boosting": boosting, "linear": linear}


def out_of_fold(features: Floats, labels: Texts, groups: Texts | None, model: str, folds: int, seed: int) -> Floats:
    """Return (N, K) probabilities, each cell predicted by one of MODELS that was fitted on the other folds.

    Classes are in sorted order. With `groups` no group is in two folds, else the folds are random.
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
            fitted = MODELS[model](seed).fit(features[train], labels[train])  # type: ignore[attr-defined]  # scikit-learn has no types
            # The training folds may lack a class where groups are few; it then gets probability 0.
            columns = np.searchsorted(classes, fitted.classes_)
            probabilities[np.ix_(test, columns)] = fitted.predict_proba(features[test])
    return probabilities


def cramers_v(counts: npt.NDArray[np.int64]) -> float:
    """Return Cramér's V of a contingency table, 0 to 1, corrected for bias (Bergsma 2013)."""
    total, (rows, columns) = counts.sum(), counts.shape
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / total
    phi2 = ((counts - expected) ** 2 / np.maximum(expected, 1e-12)).sum() / total
    corrected = max(0.0, phi2 - (rows - 1) * (columns - 1) / (total - 1))
    smaller = min(rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)) - 1
    return float(min(1.0, np.sqrt(corrected / smaller))) if smaller > 0 else 0.0
