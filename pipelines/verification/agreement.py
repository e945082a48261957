"""A registered model beside its rebuilds, on the test cells."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fatescope.data.dataset import CellDataset, class_indices
from fatescope.data.splits import Splits
from fatescope.inference import bundle
from fatescope.inference.uncertainty import softmax
from pipelines.evaluation import metrics, predict
from pipelines.verification.report import Agreement, MetricSpread, spread

METRICS = ("balanced_accuracy", "accuracy", "macro_f1", "mcc")
Floats = npt.NDArray[np.floating]


class Judged(NamedTuple):
    """What rebuilds show of a version."""

    cells: int
    metrics: dict[str, MetricSpread]
    logits: Agreement
    reseeded_logits: list[Agreement]


def judge(registered: Path, rebuilt: Path, reseeded: list[Path], source: CellDataset, splits: Splits) -> Judged:
    """Run the bundles in these folders on the test cells of the scheme that the registered one was made on."""
    spec = bundle.read_spec(registered)
    rows = splits.indices(spec.split, "test", spec.classes)
    targets = class_indices(source.take(rows, ["label"])["label"], spec.classes)
    first, again, *others = [_logits(folder, source, rows) for folder in (registered, rebuilt, *reseeded)]
    scores = [metrics.score(targets, softmax(logits), spec.classes) for logits in (first, again, *others)]
    # One cell of the smallest class moves the balanced accuracy by so much; the other metrics by about as much.
    resolution = 1 / (len(spec.classes) * int(np.bincount(targets, minlength=len(spec.classes)).min()))
    return Judged(
        len(rows),
        {
            name: spread(registered_score, rebuilt_score, reseeded_scores, resolution)
            for name in METRICS
            for registered_score, rebuilt_score, *reseeded_scores in [[float(getattr(each, name)) for each in scores]]
        },
        compare_logits(first, again),
        [compare_logits(first, other) for other in others],
    )


def compare_logits(one: Floats, other: Floats) -> Agreement:
    """Return how (n, K) logits of two models agree."""
    difference = np.abs(one - other)
    return Agreement(
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        same_calls=float((one.argmax(1) == other.argmax(1)).mean()),
    )


def _logits(folder: Path, source: CellDataset, rows: npt.NDArray[np.int64]) -> Floats:
    """Return (n, K) logits of the cells in `rows`."""
    model = bundle.load(folder, threads=0)
    batches = (source.pixels[rows[start : start + predict.BATCH]] for start in range(0, len(rows), predict.BATCH))
    return np.concatenate([model.predict(pixels, maps=False).logits for pixels in batches])
