"""What a whole sample comes to: its composition, and how far its images differ from those that the model knows."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.data import shift
from fatescope.data.features import ACQUISITION
from fatescope.inference import bundle
from fatescope.inference.bundle import Spec

STRANGE = 0.5
"""A figure whose distributions differ by this much is worth telling a person."""
FEWEST = 5
"""Cells that a comparison needs."""
BINS = 24
WORDS = {
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
"""What a figure is called before biologists."""
FIGURES = (*ACQUISITION, "height", "width")


def compose(probabilities: npt.NDArray[np.floating], spec: Spec) -> dict[str, dict[str, float]] | None:
    """Return class → Share of cells of which the model says (B, K) `probabilities`; None for none."""
    if not len(probabilities):
        return None
    found = bundle.compose(probabilities.astype(np.float32), spec)
    each = zip(spec.classes, found.shares.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
    return {name: {"share": share, "low": low, "high": high} for name, share, low, high in each}


def differences(figures: npt.NDArray[np.floating], path: Path) -> list[dict[str, Any]]:
    """Return a Difference for each figure in which (n, len(FIGURES)) cells are unlike those that the model knows.

    `path` is the bundle. A figure counts where its Kolmogorov-Smirnov distance is STRANGE or more and above what chance
    would give; the farthest first.
    """
    if len(figures) < FEWEST:
        return []
    known = _reference(path)
    here = pd.DataFrame(figures, columns=list(FIGURES))
    found = []
    for each in shift.shifts(known, here):
        if each.distance >= STRANGE and each.distance > each.chance:
            edges = _edges(known[each.figure], here[each.figure])
            shares = [np.histogram(table[each.figure], edges)[0] / len(table) for table in (known, here)]
            found.append(
                {
                    "figure": each.figure,
                    "name": WORDS[each.figure],
                    "distance": each.distance,
                    "known": each.reference,
                    "here": each.window,
                    "edges": edges.tolist(),
                    "known_shares": shares[0].tolist(),
                    "here_shares": shares[1].tolist(),
                }
            )
    return found


def _edges(one: pd.Series, other: pd.Series) -> npt.NDArray[np.floating]:
    low, high = min(one.min(), other.min()), max(one.max(), other.max())
    return np.linspace(low, max(high, low + 1e-6), BINS + 1)


@lru_cache(maxsize=8)
def _reference(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path / bundle.REFERENCE, columns=list(FIGURES))
