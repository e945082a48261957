"""Two models on the same cells, which neither has seen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope.data.dataset import CellDataset, class_indices
from fatescope.data.splits import Splits
from fatescope.data.tracks import Tracks
from fatescope.errors import BundleError, DataError
from fatescope.inference import bundle
from pipelines.evaluation import on_device, predict

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class PairedPredictions:
    """The predictions of two models, the earlier and the later one, for n cells."""

    rows: npt.NDArray[np.int64]
    """(n,) rows of the manifest."""
    classes: list[str]
    targets: npt.NDArray[np.int64]
    """(n,) index of the true class."""
    groups: npt.NDArray[np.str_]
    before: Floats
    """(n, K) probabilities of the earlier model."""
    after: Floats
    """(n, K) probabilities of the later model."""
    cost_before: float
    """Multiply-adds for one cell."""
    cost_after: float
    cells: npt.NDArray[np.int64] | None = None
    """(n,) equal for images of one cell over time; None where each is of another."""


def predict_paired(
    before: Path, after: Path, source: CellDataset, splits: Splits, threads: int, tracks: Tracks | None = None
) -> PairedPredictions:
    """Run the bundles in the folders `before` and `after` on the test cells that neither was fitted on.

    Nor on another image of such a cell, by `tracks`. The scheme and the order of the classes are those of `after`. A
    model is wrong on a cell that is too large for it.
    Raises BundleError where the classes differ, and DataError where a class has no cell left.
    """
    models = on_device.load(before, threads), on_device.load(after, threads)
    classes, scheme = models[1].spec.classes, models[1].spec.split
    if sorted(models[0].spec.classes) != sorted(classes):
        raise BundleError(f"its classes are {models[0].spec.classes}, not {classes}")
    rows = splits.indices(scheme, "test", classes)
    hashes = source.take(rows, ["pixel_hash"])["pixel_hash"].to_numpy()
    unseen = bundle.exclude_seen(before, hashes) & bundle.exclude_seen(after, hashes)
    if tracks is not None:
        unseen &= ~np.isin(tracks.keys[rows], tracks.keys[rows[~unseen]])
    rows = rows[unseen]
    targets = class_indices(source.take(rows, ["label"])["label"], classes)
    if len(np.unique(targets)) < len(classes):
        raise DataError(
            f"{scheme} split: some class has no test cells left that neither version has seen; "
            "add cells, or keep split.seed as it was when the champion was trained"
        )
    return PairedPredictions(
        rows=rows,
        classes=classes,
        targets=targets,
        groups=source.take(rows, ["group"])["group"].to_numpy(str),
        before=_probabilities(models[0], source, rows, targets, classes),
        after=_probabilities(models[1], source, rows, targets, classes),
        cost_before=models[0].spec.cost["multiply_adds"],
        cost_after=models[1].spec.cost["multiply_adds"],
        cells=None if tracks is None else tracks.keys[rows],
    )


def _probabilities(
    model: bundle.Bundle, source: CellDataset, rows: Rows, targets: npt.NDArray[np.int64], classes: list[str]
) -> Floats:
    """Return (n, K) probabilities of `classes`, in this order; for a cell that is too large, 1 for a wrong class."""
    height, width = source.take(rows, ["height", "width"]).to_numpy().T
    fits = (height <= model.spec.canvas[0]) & (width <= model.spec.canvas[1])
    probabilities = np.eye(len(classes))[(targets + 1) % len(classes)]
    order = [model.spec.classes.index(name) for name in classes]
    probabilities[fits] = predict.assess(model, source, rows[fits]).probabilities[:, order]
    return probabilities
