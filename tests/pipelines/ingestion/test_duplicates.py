from array import array

import numpy as np
import pytest

from pipelines.ingestion import duplicates


def one_by_one(hashes):
    first, later, earlier = {}, [], []
    for row, value in enumerate(hashes):
        if first.setdefault(value, row) != row:
            later.append(row)
            earlier.append(first[value])
    return later, earlier


@pytest.mark.parametrize("seed", range(20))
def test_each_repeat_is_found_with_the_first_of_its_kind(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(duplicates, "CHUNK", int(rng.integers(1, 60)))
    hashes = array("q", (rng.integers(-40, 40, rng.integers(1, 400)) * 2**56).tolist())
    later, earlier = duplicates.find_duplicates(hashes)
    assert (later.tolist(), earlier.tolist()) == one_by_one(hashes)


def test_cells_that_all_differ_have_none():
    assert [len(rows) for rows in duplicates.find_duplicates(array("q", range(1000)))] == [0, 0]
