"""The reference of a bundle: features, embeddings and predictions of known cells, from which drift is measured."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors.numpy import load_file

from fatescope.data.features import ACQUISITION
from fatescope.inference.ood import MahalanobisDetector
from fatescope.inference.spec import SEEN, Spec
from fatescope.inference.uncertainty import Assessment, Prediction, assess_prediction

COMPONENTS = 8
"""Coordinates of the embedding that the reference keeps."""


def build_reference(
    manifest: pd.DataFrame, predictions: list[Prediction], spec: Spec, outliers: MahalanobisDetector, *, seen: int = 0
) -> pd.DataFrame:
    """Return the reference: one row per cell of `manifest`, for which the model gives `predictions`.

    Columns: `label`, `group`, `height`, `width`, the features of `features.ACQUISITION`, `e0`, `e1`, … (the embedding
    along its principal directions), `p_CLASS`, `distance`, `verdict`, and `seen`: whether the model was trained on the
    cell, and so is more confident about it. These are the last `seen` rows.
    """
    known = manifest[["label", "group", "height", "width", *ACQUISITION]].reset_index(drop=True)
    assessment = Assessment.concatenate(
        [assess_prediction(batch, spec.conformal, spec.outlier_threshold, outliers) for batch in predictions]
    )
    components = np.concatenate([outliers.components(batch.embedding, COMPONENTS) for batch in predictions])
    return known.assign(
        **{f"e{i}": components[:, i] for i in range(components.shape[1])},
        **{f"p_{name}": assessment.probabilities[:, i] for i, name in enumerate(spec.classes)},
        distance=assessment.distance,
        seen=np.arange(len(known)) >= len(known) - seen,
        verdict=assessment.verdicts,
    )


def exclude_seen(folder: Path, pixel_hashes: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Return (n,) whether the model in `folder` was trained without each cell, identified by its pixel hash."""
    return ~np.isin(pixel_hashes, load_file(folder / SEEN)["cells"])
