import shutil

import numpy as np
import pandas as pd
import pytest

from fatescope.data import splits
from fatescope.errors import DataError, SplitError
from pipelines.splitting.by_group import deal_groups, find_confounded
from pipelines.stages import ingest
from pipelines.stages import split as stage
from tests.support.params import write_params
from tests.support.splitting import BALANCED, table


def test_splits_survive_the_disk_and_answer(params, tmp_path):
    labels, groups = table({**BALANCED, "n": ["n0"]})
    sides = deal_groups(labels, groups, [], params.split)
    confounded, random = find_confounded(labels, groups, sides), "train"
    grouped = np.where(labels == "n", None, [sides[group] for group in groups])
    frame = pd.DataFrame({"cell_id": np.arange(len(labels)), "label": labels, "random": random, "grouped": grouped})
    splits.save(splits.Splits(frame, confounded), tmp_path / "splits.parquet")
    found = splits.load(tmp_path / "splits.parquet")
    assert found.available(["a", "o"]) == ["grouped", "random"]
    assert found.available(["a", "n"]) == ["random"]
    assert found.confounded_in(["a", "n"]) == {"n": "1 group, 3 needed"}
    rows = found.indices("grouped", "test", ["a", "o"])
    assert (grouped[rows] == "test").all()
    assert len(rows) == (grouped == "test").sum()
    with pytest.raises(SplitError, match=r"scheme 'grouped' has no test cells of \{'n': '1 group, 3 needed'\}"):
        found.indices("grouped", "test", ["a", "n"])


def test_a_class_of_no_task_has_no_part_and_stops_nothing(tmp_path, export):
    shutil.copy(export / "a_1d1_0_Ch1.ome.tif", export / "nt3_1d1_0_Ch1.ome.tif")
    path = write_params(tmp_path, {"dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte"]}})
    ingest.main(path, export, tmp_path / "cells")
    stage.main(path, tmp_path / "cells", tmp_path / "splits.parquet")
    found = splits.load(tmp_path / "splits.parquet").table.set_index("label")
    assert found.loc["NT3", ["random", "grouped"]].isna().all()
    assert not found.drop("NT3").isna().any(axis=None)


def test_cells_that_no_task_asks_for_are_an_error(tmp_path, export):
    path = write_params(tmp_path, {"dataset.tasks": {"binary": ["RA/SHH", "NT3"]}})
    ingest.main(path, export, tmp_path / "cells")
    with pytest.raises(
        SplitError, match=r"has cells of \['astrocyte', 'oligodendrocyte'\], none of which a task names"
    ):
        stage.main(path, tmp_path / "cells", tmp_path / "splits.parquet")


def test_a_file_that_holds_no_splits(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "splits.parquet")
    for name in ("splits.parquet", "absent.parquet"):
        with pytest.raises(DataError, match="run the split stage"):
            splits.load(tmp_path / name)
