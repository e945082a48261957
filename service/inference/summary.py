"""Results for a whole sample: its composition, and how its images differ from those that the model was trained on."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.data import shift
from fatescope.data.features import acquisition_names
from fatescope.inference import bundle, uncertainty
from fatescope.inference.bundle import Spec
from service.inference.results import ShareDict

MIN_DISTANCE = 0.5
"""Smallest Kolmogorov-Smirnov distance that is reported."""
MIN_CELLS = 5
"""Cells that a comparison needs."""
BINS = 24
FEATURE_NAMES = {
    "background": "brightness of the background",
    "background_spread": "unevenness or noise of the background",
    "mean": "mean brightness",
    "spread": "contrast",
    "darkest": "darkest pixels",
    "brightest": "brightest pixels",
    "focus": "sharpness",
    "saturation": "share of overexposed pixels",
    "height": "height of the images",
    "width": "width of the images",
}
"""Image feature → its name for biologists."""
SIZES = ("height", "width")


@dataclass(frozen=True)
class FeatureDifference:
    """A feature whose distribution in a sample differs from that of the reference cells of the model."""

    figure: str
    name: str
    distance: float
    known: float
    here: float
    edges: list[float]
    known_shares: list[float]
    here_shares: list[float]


def feature_names(spec: Spec) -> tuple[str, ...]:
    """Return the features of a cell, in the order of `figures` in a response."""
    return (*acquisition_names(spec.inputs), *SIZES)


def feature_for_people(feature: str) -> str:
    """Return the name of a feature for biologists, with the channel where it is not of the first."""
    if feature in FEATURE_NAMES:
        return FEATURE_NAMES[feature]
    kind = max((name for name in FEATURE_NAMES if feature.startswith(f"{name}_")), key=len)
    return f"{FEATURE_NAMES[kind]} in channel {feature.removeprefix(f'{kind}_')}"


def compose(
    probabilities: npt.NDArray[np.floating], verdicts: npt.NDArray[np.str_], spec: Spec
) -> dict[str, ShareDict] | None:
    """Estimate the share of each class from the (n, K) `probabilities` of n cells.

    Cells whose verdict is `unlike_training` do not count; returns None if no other cell is left.
    """
    probabilities = probabilities[verdicts != uncertainty.UNLIKE]
    if not len(probabilities):
        return None
    estimate = bundle.compose(probabilities.astype(np.float32), spec)
    rows = zip(spec.classes, estimate.shares.tolist(), estimate.low.tolist(), estimate.high.tolist(), strict=True)
    return {name: {"share": share, "low": low, "high": high} for name, share, low, high in rows}


def differences(figures: npt.NDArray[np.floating], spec: Spec, bundle_folder: Path) -> list[FeatureDifference]:
    """Return the features in which n cells, with (n, F) `figures`, differ from the reference cells of a model.

    A feature is reported if its Kolmogorov-Smirnov distance is at least MIN_DISTANCE and larger than chance would make
    it; the largest distance comes first.
    """
    if len(figures) < MIN_CELLS:
        return []
    names = feature_names(spec)
    reference = _read_reference(bundle_folder, names)
    sample = pd.DataFrame(figures, columns=list(names))
    return [
        _describe(difference, reference[difference.figure], sample[difference.figure])
        for difference in shift.shifts(reference, sample)
        if difference.distance >= MIN_DISTANCE and difference.distance > difference.chance
    ]


def _describe(difference: shift.Shift, reference: pd.Series, sample: pd.Series) -> FeatureDifference:
    low, high = min(reference.min(), sample.min()), max(reference.max(), sample.max())
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    shares = [np.histogram(column, edges)[0] / len(column) for column in (reference, sample)]
    return FeatureDifference(
        figure=difference.figure,
        name=feature_for_people(difference.figure),
        distance=difference.distance,
        known=difference.reference,
        here=difference.window,
        edges=edges.tolist(),
        known_shares=shares[0].tolist(),
        here_shares=shares[1].tolist(),
    )


@lru_cache(maxsize=8)
def _read_reference(bundle_folder: Path, names: tuple[str, ...]) -> pd.DataFrame:
    return pd.read_parquet(bundle_folder / bundle.REFERENCE, columns=list(names))
