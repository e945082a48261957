"""Two versions of a model on the same cells, which neither has seen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipelines.core import bundle, images
from pipelines.core.bundle import Bundle, Judgement
from pipelines.core.cells import Cells
from pipelines.core.errors import BundleError, DataError
from pipelines.core.splits import Splits
from pipelines.gate import Both

BATCH = 256
"""Cells that a graph is given at a time."""


@dataclass(frozen=True)
class Pair:
    """What two versions say of `rows` of the manifest."""

    rows: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    before: Judgement
    after: Judgement
    models: tuple[Bundle, Bundle]
    by_groups: bool

    def both(self, source: Cells, version: str) -> Both:
        """Return what the gate asks of this pair; `version` is the first one's."""
        return Both(
            champion=version,
            targets=self.targets,
            groups=source.manifest["group"].to_numpy(str)[self.rows],
            before=self.before.probabilities,
            after=self.after.probabilities,
            by_groups=self.by_groups,
            cost_before=self.models[0].spec.cost["multiply_adds"],
            cost_after=self.models[1].spec.cost["multiply_adds"],
        )


def pair(first: Path, second: Path, source: Cells, divided: Splits, threads: int) -> Pair:
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
    rows = rows[bundle.unseen(first, hashes) & bundle.unseen(second, hashes)]
    targets = np.array([classes.index(x) for x in source.manifest["label"].to_numpy()[rows]], np.int64)
    if len(np.unique(targets)) < len(classes):
        raise DataError(
            f"split '{split}': some class has no test cells left that neither version has seen; "
            "add cells, or keep split.seed as it was when the champion was made"
        )
    before, after = (_judge(model, source, rows) for model in models)
    return Pair(rows, targets, before, after, models, split == "grouped")


def _judge(model: Bundle, source: Cells, rows: npt.NDArray[np.int64]) -> Judgement:
    judged = []
    for start in range(0, len(rows), BATCH):
        chosen = rows[start : start + BATCH]
        pixels = recanvas(source.pixels[chosen], source.manifest.iloc[chosen], model.spec.canvas)
        judged.append(model.judge(model.predict(pixels)))
    names = Judgement.__dataclass_fields__
    return Judgement(*(np.concatenate([getattr(each, name) for each in judged]) for name in names))


def recanvas(pixels: npt.NDArray[np.uint16], manifest: pd.DataFrame, canvas: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """Return (B, H, W) cells on another canvas, as if they had been ingested on to it.

    Raises ImageError for a cell that is larger than `canvas`.
    """
    if pixels.shape[1:] == canvas:
        return pixels
    moved = []
    for image, name, height, width in zip(
        pixels, manifest["cell_id"], manifest["height"], manifest["width"], strict=True
    ):
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        moved.append(images.center(image[top : top + height, left : left + width], canvas, name))
    return np.stack(moved)
