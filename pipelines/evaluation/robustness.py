"""What a model makes of its test cells as other instruments would have taken them (`instrument_shifts`)."""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import balanced_accuracy_score

from fatescope.data.dataset import CellDataset, class_indices
from fatescope.inference.bundle import Bundle
from pipelines.evaluation import predict
from pipelines.evaluation.instrument_shifts import SHIFTS, shift_cells
from pipelines.evaluation.metrics_report import Robustness

CELLS = 500
"""Test cells that are shifted, at most; they are drawn at random."""


def measure_robustness(model: Bundle, source: CellDataset, rows: npt.NDArray[np.int64], seed: int) -> Robustness:
    """Return the balanced accuracy of `model` on up to CELLS of the test cells in `rows`, as they are and shifted."""
    if len(rows) > CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, CELLS, replace=False))
    manifest = source.take(rows, ["cell_id", "label", "height", "width"]).reset_index(drop=True)
    targets = class_indices(manifest["label"], model.spec.classes)

    def accuracy(pixels: npt.NDArray[np.uint16]) -> float:
        cells = CellDataset(manifest, pixels, source.channels)
        predicted = predict.assess(model, cells, np.arange(len(rows))).probabilities.argmax(1)
        return float(balanced_accuracy_score(targets, predicted))

    return Robustness(
        cells=len(rows),
        balanced_accuracy=accuracy(source.pixels[rows]),
        shifted={name: accuracy(shift_cells(source, rows, name, seed)) for name in SHIFTS},
    )
