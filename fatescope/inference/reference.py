"""The reference of a bundle: features, embeddings and predictions of known cells, from which drift is measured."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors.numpy import load_file

from fatescope.data import acquisition_facts
from fatescope.data.features import acquisition_names
from fatescope.inference.ood import MahalanobisDetector
from fatescope.inference.spec import KNOWN_BEFORE, SEEN, Spec
from fatescope.inference.uncertainty import Assessment, Prediction, assess_prediction

ACCURACY = "accuracy_error"
"""Key in `attrs` of a reference: the fields of `accuracy.Error`; absent in older bundles, and where there are too few
groups."""
COMPONENTS = 8
"""Coordinates of the embedding that the reference keeps."""


def build_reference(
    manifest: pd.DataFrame,
    predictions: list[Prediction],
    spec: Spec,
    outliers: MahalanobisDetector,
    *,
    seen: int = 0,
    known: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the reference: one row per cell of `manifest`, for which the model gives `predictions`.

    Columns: `label`, `group`, `height`, `width`, the features of `features.acquisition_names`, `e0`, `e1`, … (the
    embedding along its principal directions), `p_CLASS`, `distance`, `verdict`, and `seen`: whether the model was
    trained on the cell, and so is more confident about it. These are the last `seen` rows. Where files say how they
    were acquired, there are `acquisition_facts.columns_of` as well; then `attrs` has their `known_values` in all of
    the cells `known`, by default those of `manifest`, which may be some of them.
    """
    columns = ["label", "group", "height", "width", *acquisition_names(spec.inputs)]
    cells = manifest[[*columns, *acquisition_facts.columns_of(manifest)]].reset_index(drop=True)
    assessment = Assessment.concatenate(
        [assess_prediction(batch, spec.conformal, spec.outlier_threshold, outliers) for batch in predictions]
    )
    components = np.concatenate([outliers.components(batch.embedding, COMPONENTS) for batch in predictions])
    reference = cells.assign(
        **{f"e{i}": components[:, i] for i in range(components.shape[1])},
        **{f"p_{name}": assessment.probabilities[:, i] for i, name in enumerate(spec.classes)},
        distance=assessment.distance,
        seen=np.arange(len(cells)) >= len(cells) - seen,
        verdict=assessment.verdicts,
    )
    if values := acquisition_facts.known_values(manifest if known is None else known):
        reference.attrs[acquisition_facts.KNOWN] = values
    return reference


def exclude_seen(folder: Path, pixel_hashes: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Return (n,) whether the model in `folder` was trained without each cell, identified by its pixel hash."""
    return ~np.isin(pixel_hashes, load_file(folder / SEEN)["cells"])


def known_before(folder: Path) -> npt.NDArray[np.int64]:
    """Return the pixel hashes of the cells on which the weights that the model in `folder` began with were trained."""
    return load_file(folder / SEEN).get(KNOWN_BEFORE, np.empty(0, np.int64))
