"""Two versions of a model on the same cells, which neither has seen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.errors import BundleError, DataError
from fatescope.inference import bundle
from fatescope.inference.bundle import Bundle
from fatescope.inference.uncertainty import Assessment
from pipelines.evaluation import predict
from pipelines.registry.gate import Both


@dataclass(frozen=True)
class Pair:
    """What two versions say of `rows` of the manifest."""

    rows: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    before: Assessment
    after: Assessment
    models: tuple[Bundle, Bundle]

    def both(self, source: CellDataset, version: str) -> Both:
        """Return what the gate asks of this pair; `version` is the first one's."""
        return Both(
            champion=version,
            targets=self.targets,
            groups=source.manifest["group"].to_numpy(str)[self.rows],
            before=self.before.probabilities,
            after=self.after.probabilities,
            cost_before=self.models[0].spec.cost["multiply_adds"],
            cost_after=self.models[1].spec.cost["multiply_adds"],
        )


def pair(first: Path, second: Path, source: CellDataset, divided: Splits, threads: int) -> Pair:
    """Let the bundles in the folders `first` and `second` judge the test cells that neither was fitted on.

    Raises BundleError where they tell different classes apart, and DataError where no cell of a class is left.
    """
    models = bundle.load(first, threads), bundle.load(second, threads)
    classes = models[1].spec.classes
    if models[0].spec.classes != classes:
        raise BundleError(f"it tells {models[0].spec.classes} apart, not {classes}")
    split = models[1].spec.split
    rows = divided.indices(split, "test", classes)
    hashes = source.manifest["pixel_hash"].to_numpy()[rows]
    rows = rows[bundle.exclude_seen(first, hashes) & bundle.exclude_seen(second, hashes)]
    targets = np.array([classes.index(x) for x in source.manifest["label"].to_numpy()[rows]], np.int64)
    if len(np.unique(targets)) < len(classes):
        raise DataError(
            f"split '{split}': some class has no test cells left that neither version has seen; "
            "add cells, or keep split.seed as it was when the champion was made"
        )
    before, after = (predict.assess(model, source, rows) for model in models)
    return Pair(rows, targets, before, after, models)
