"""What can be predicted without looking at the cell: descriptions of its surroundings, and models that try.

`border` (the outer frame of the crop) and `masked` (all that lies away from the cell) cannot hold the cell, save for a
halo that reaches so far: only they can prove a shortcut. `crop` is the size, which an instrument may set by the cell,
so that it is never more than suspect. `intensity`, mean and spread of the whole crop, holds a trace of the cell: it
is reported, and accuses nobody.
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

from fatescope.data.images import FRAME, border

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
            fitted = model(seed).fit(features[train], labels[train])  # type: ignore[attr-defined]  # scikit-learn has no types
            # A fold of few groups may lack a class; it then gets no probability.
            columns = np.searchsorted(classes, fitted.classes_)
            probabilities[np.ix_(test, columns)] = fitted.predict_proba(features[test])
    return probabilities
