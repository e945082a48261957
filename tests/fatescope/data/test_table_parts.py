"""Tables that are read a part at a time, and datasets of which some columns are in memory."""

import json

import numpy as np
import pandas as pd
import pytest

from fatescope.data import dataset, table_parts
from fatescope.data.table_parts import FileParts, FrameParts
from fatescope.errors import DataError

COUNT = 25


@pytest.fixture
def frame():
    names = ["b", "a", "b", "c", "a"] * (COUNT // 5)
    return pd.DataFrame({"cell_id": [f"cell {i}" for i in range(COUNT)], "label": names, "height": range(COUNT)})


@pytest.fixture
def folder(tmp_path, frame):
    """A dataset of COUNT cells on disk, in row groups of 4."""
    frame.to_parquet(tmp_path / dataset.MANIFEST, row_group_size=4)
    np.save(tmp_path / dataset.PIXELS, np.zeros((COUNT, 6, 8), np.uint16))
    (tmp_path / dataset.SUMMARY).write_text(json.dumps({"channels": {}}))
    return tmp_path


def test_parts_are_the_rows_in_order_from_a_file_and_from_memory(folder, frame, monkeypatch):
    monkeypatch.setattr(table_parts, "PART", 10)
    for table in (FileParts(folder / dataset.MANIFEST), FrameParts(frame)):
        assert (len(table), table.columns) == (COUNT, ["cell_id", "label", "height"])
        parts = list(table.read())
        assert max(map(len, parts)) <= 10
        pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), frame)
        assert [list(part) for part in table.read(["height"])] == [["height"]] * len(parts)


def test_rows_are_taken_in_the_order_that_is_asked_for(folder, frame, monkeypatch):
    monkeypatch.setattr(table_parts, "PART", 10)
    rows = np.array([24, 0, 11, 11, 9])
    found = table_parts.take(FileParts(folder / dataset.MANIFEST), rows)
    pd.testing.assert_frame_equal(found, frame.iloc[rows])
    assert len(table_parts.take(FrameParts(frame), rows[:0])) == 0


def test_a_sample_is_drawn_without_repetition_as_the_seed_decides():
    first, again, other = (table_parts.sample_rows(1000, 200, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (np.diff(first) > 0).all()
    assert len(first) == 200
    assert first.tolist() != other.tolist()
    assert table_parts.sample_rows(5, 200, 0).tolist() == [0, 1, 2, 3, 4]


def test_text_in_named_columns_is_categories_in_ascending_order_but_ids_are_text(folder, frame):
    cells = dataset.load(folder, ["label", "cell_id"])
    assert cells.manifest["label"].cat.categories.tolist() == ["a", "b", "c"]
    assert cells.manifest["label"].cat.codes.dtype == np.int8
    assert cells.manifest["label"].tolist() == frame["label"].tolist()
    assert cells.manifest["cell_id"].tolist() == frame["cell_id"].tolist()
    pd.testing.assert_frame_equal(dataset.load(folder).manifest, frame)


def test_what_is_not_in_memory_is_read_when_it_is_taken(folder, frame):
    rows = np.array([7, 3])
    cells = dataset.load(folder, ["label"])
    assert cells.take(rows, ["label"])["label"].tolist() == ["b", "c"]
    pd.testing.assert_frame_equal(cells.take(rows, ["height", "cell_id"]), frame.iloc[rows][["height", "cell_id"]])
    for opened in (cells, dataset.load(folder), dataset.load(folder, [])):
        assert len(opened) == COUNT
        pd.testing.assert_frame_equal(opened.take(rows), frame.iloc[rows])


def test_a_file_that_is_no_table_says_what_to_do(tmp_path):
    (tmp_path / "text").write_text("text")
    for name in ("text", "absent"):
        with pytest.raises(DataError, match=f"{name}: not a table of cells .*run the ingest stage"):
            len(FileParts(tmp_path / name))
    with pytest.raises(DataError, match="has no dataset of cells"):
        dataset.load(tmp_path, ["label"])
