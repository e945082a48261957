import numpy as np
import pandas as pd
import pytest

from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.errors import SplitError
from pipelines.training.bundle_writer import sample_reference
from pipelines.training.examples import load_search_examples

CLASSES = ["astrocyte", "oligodendrocyte"]


def divide(random, *, confounded=None):
    """Return 16 cells and their splits: under the grouped scheme, of each class four cells train and two validate."""
    grouped = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    table = pd.DataFrame({"label": np.repeat(CLASSES, 8), "random": random, "grouped": grouped * 2})
    cells = CellDataset(table[["label"]], np.zeros((16, 4, 4), np.uint16))
    return cells, Splits(table.assign(cell_id=range(16)), confounded or {})


ALTERNATING = ["test", "train", "validation", "train"] * 4


def test_hyperparameters_are_searched_without_the_test_cells_of_any_scheme():
    cells, splits = divide(ALTERNATING)
    examples = load_search_examples(cells, splits, CLASSES)
    assert examples.train.tolist() == [1, 2, 3, 9, 10, 11]
    assert examples.validation.tolist() == [5, 13]
    for scheme in ("grouped", "random"):
        tested = splits.indices(scheme, "test", CLASSES)
        assert not np.isin(tested, np.concatenate([examples.train, examples.validation])).any()


def test_where_there_is_one_scheme_only_the_search_has_all_its_cells():
    cells, splits = divide(ALTERNATING, confounded={"astrocyte": "one group"})
    examples = load_search_examples(cells, splits, CLASSES)
    assert examples.train.tolist() == splits.indices("random", "train", CLASSES).tolist()
    assert examples.validation.tolist() == splits.indices("random", "validation", CLASSES).tolist()


def test_a_class_without_cells_to_search_on_is_an_error():
    tested = ["train", "train", "train", "validation", "test", "test", "train", "train"]
    cells, splits = divide(tested + ALTERNATING[:8])
    with pytest.raises(SplitError, match=r"no validation cells of \['astrocyte'\] are left to search.*tune.trials: 0"):
        load_search_examples(cells, splits, CLASSES)


def test_a_reference_has_whole_groups_and_not_a_few_cells_of_hundreds():
    groups = np.array([f"g{i // 100:03d}" for i in range(80_000)])
    rows = np.arange(80_000)
    chosen = sample_reference(rows, groups)
    names, counts = np.unique(groups[chosen], return_counts=True)
    assert len(names) == 40
    assert (names[0], names[-1]) == ("g000", "g799")
    assert counts.min() == 100
    many = sample_reference(rows, np.array(["a"] * 40_000 + ["b"] * 40_000))
    assert len(many) == 5000
    assert len(sample_reference(rows[:30], groups)) == 30
