"""The reference of a bundle: cells that the model knows, with what it predicts for them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors.numpy import load_file

from fatescope.data.features import ACQUISITION
from fatescope.inference.ood import MahalanobisDetector
from fatescope.inference.spec import SEEN, Spec
from fatescope.inference.uncertainty import Prediction, assess_prediction

COMPONENTS = 8
"""Coordinates of the embedding that drift is told by."""


def build_reference(
    manifest: pd.DataFrame, predictions: list[Prediction], spec: Spec, outliers: MahalanobisDetector, *, seen: int = 0
) -> pd.DataFrame:
    """Return the reference: a row a cell of `manifest`, of which the model says `predictions`.

    Columns: `label`, `group`, `height`, `width`, the figures of `features.ACQUISITION`, `e0` and on (the embedding
    along its strongest directions), `p_CLASS`, `distance`, `verdict`, and `seen`: the model was fitted on the last
    `seen` cells, and is surer of them than of others.
    """
    known = manifest[["label", "group", "height", "width", *ACQUISITION]].reset_index(drop=True)
    judged = [assess_prediction(each, spec.conformal, spec.outlier_threshold, outliers) for each in predictions]
    along = np.concatenate([outliers.components(each.embedding, COMPONENTS) for each in predictions])
    probabilities = np.concatenate([each.probabilities for each in judged])
    return known.assign(
        **{f"e{i}": along[:, i] for i in range(along.shape[1])},
        **{f"p_{name}": probabilities[:, i] for i, name in enumerate(spec.classes)},
        distance=np.concatenate([each.distance for each in judged]),
        seen=np.arange(len(known)) >= len(known) - seen,
        verdict=np.concatenate([each.verdicts for each in judged]),
    )


def exclude_seen(folder: Path, pixel_hashes: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Tell of each cell, by its pixel hash, whether the model in `folder` was fitted without it."""
    return ~np.isin(pixel_hashes, load_file(folder / SEEN)["cells"])
