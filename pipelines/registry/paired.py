"""Two models on the same cells, which neither has seen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.errors import BundleError, DataError
from fatescope.inference import bundle
from pipelines.evaluation import predict

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


def predict_paired(before: Path, after: Path, source: CellDataset, splits: Splits, threads: int) -> PairedPredictions:
    """Run the bundles in the folders `before` and `after` on the test cells that neither was fitted on.

    The scheme is that of `after`. Raises BundleError where the classes differ, and DataError where a class has no cell
    left.
    """
    models = bundle.load(before, threads), bundle.load(after, threads)
    classes, scheme = models[1].spec.classes, models[1].spec.split
    if models[0].spec.classes != classes:
        raise BundleError(f"its classes are {models[0].spec.classes}, not {classes}")
    rows = splits.indices(scheme, "test", classes)
    hashes = source.manifest["pixel_hash"].to_numpy()[rows]
    rows = rows[bundle.exclude_seen(before, hashes) & bundle.exclude_seen(after, hashes)]
    targets = np.array([classes.index(label) for label in source.manifest["label"].to_numpy()[rows]], np.int64)
    if len(np.unique(targets)) < len(classes):
        raise DataError(
            f"{scheme} split: some class has no test cells left that neither version has seen; "
            "add cells, or keep split.seed as it was when the champion was trained"
        )
    return PairedPredictions(
        rows=rows,
        classes=classes,
        targets=targets,
        groups=source.manifest["group"].to_numpy(str)[rows],
        before=predict.assess(models[0], source, rows).probabilities,
        after=predict.assess(models[1], source, rows).probabilities,
        cost_before=models[0].spec.cost["multiply_adds"],
        cost_after=models[1].spec.cost["multiply_adds"],
    )
