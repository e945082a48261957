"""Two models on the same cells: what may differ between them, and what a model that cannot take a cell gets for it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.data.tracks import Tracks
from fatescope.errors import BundleError
from fatescope.inference import bundle
from pipelines.registry import paired
from pipelines.registry.paired import predict_paired

CELLS, CANVAS = 8, 32
LARGE = 3
"""The row of the cell that is larger than a canvas of 16 px."""


class Model:
    """Says of each cell the class whose index is its level, among classes in its own order."""

    def __init__(self, classes, canvas=CANVAS):
        self.spec = SimpleNamespace(
            classes=classes, split="grouped", canvas=(canvas, canvas), cost={"multiply_adds": 1.0}, inputs=("1",)
        )

    def predict(self, pixels, *, maps=True):  # noqa: ARG002  as an engine takes it
        assert pixels.shape[1:] == self.spec.canvas
        return pixels.max((1, 2)) - 1

    def assess(self, levels):
        names = np.array(["a", "b"])[levels.astype(int)]
        probabilities = np.stack([np.where(names == name, 0.9, 0.1) for name in self.spec.classes], 1)
        return SimpleNamespace(probabilities=probabilities)


@pytest.fixture
def source():
    labels = np.array(["a", "b"] * (CELLS // 2))
    sizes = np.where(np.arange(CELLS) == LARGE, 20, 10)
    manifest = pd.DataFrame(
        {"cell_id": [f"cell {i}" for i in range(CELLS)], "label": labels, "group": "g", "height": sizes, "width": 10}
    ).assign(pixel_hash=np.arange(CELLS))
    pixels = np.zeros((CELLS, CANVAS, CANVAS), np.uint16)
    pixels[:, 6:26, 11:21] = np.where(labels == "a", 1, 2)[:, None, None]
    return CellDataset(manifest, pixels)


@pytest.fixture
def compare(source, monkeypatch):
    table = source.manifest[["cell_id", "label"]].assign(random="test", grouped="test")
    monkeypatch.setattr(paired.predict.Assessment, "concatenate", lambda batches: batches[0])
    monkeypatch.setattr(bundle, "exclude_seen", lambda _, hashes: np.ones(len(hashes), bool))

    def run(before, after, tracks=None):
        monkeypatch.setattr(bundle, "load", lambda folder, _: {"before": before, "after": after}[folder])
        return predict_paired("before", "after", source, Splits(table, {}), 1, tracks)

    return run


def test_the_same_classes_in_another_order_are_compared(compare):
    predictions = compare(Model(["b", "a"]), Model(["a", "b"]))
    assert predictions.classes == ["a", "b"]
    assert (predictions.before.argmax(1) == predictions.targets).all()
    np.testing.assert_array_equal(predictions.before, predictions.after)


def test_a_cell_of_which_a_model_has_seen_another_image_is_left_out(compare, monkeypatch):
    """As a champion has that was trained before tracks were named, or on another deal of them."""
    monkeypatch.setattr(bundle, "exclude_seen", lambda folder, hashes: (folder == "after") | (hashes != 2))
    followed = Tracks(np.arange(CELLS) // 4, np.zeros(CELLS))
    model = Model(["a", "b"])
    assert compare(model, model).rows.tolist() == [row for row in range(CELLS) if row != 2]
    predictions = compare(model, model, followed)
    assert predictions.rows.tolist() == list(range(4, CELLS))
    assert predictions.cells.tolist() == (np.arange(4, CELLS) // 4).tolist()


def test_a_model_that_cannot_take_a_cell_is_wrong_on_it(compare):
    predictions = compare(Model(["b", "a"], canvas=16), Model(["a", "b"]))
    assert np.flatnonzero(predictions.before.argmax(1) != predictions.targets).tolist() == [LARGE]
    assert predictions.before[LARGE].tolist() == [1, 0]
    assert (predictions.after.argmax(1) == predictions.targets).all()


@pytest.mark.parametrize("classes", [["a", "c"], ["a", "b", "c"], ["a"]])
def test_other_classes_cannot_be_compared(compare, classes):
    with pytest.raises(BundleError, match="its classes are"):
        compare(Model(classes), Model(["a", "b"]))
