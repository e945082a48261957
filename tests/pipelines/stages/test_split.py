import shutil

import numpy as np
import pandas as pd
import pytest

from fatescope.data import splits
from fatescope.errors import DataError, SplitError
from pipelines.stages import ingest
from pipelines.stages import split as stage
from tests.support.params import write_params


def table(groups_of, size=20):
    """Return labels and groups of cells: class → names of its groups."""
    rows = [(label, group) for label, groups in groups_of.items() for group in groups for _ in range(size)]
    return (np.array(column) for column in zip(*rows, strict=True))


BALANCED = {"a": [f"a{i}" for i in range(9)], "o": [f"o{i}" for i in range(9)]}
SHARED = {"sick": [f"p{i}" for i in range(12)], "well": [f"p{i}" for i in range(6, 20)]}


@pytest.mark.parametrize("groups_of", [BALANCED, SHARED])
@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_two_sides_and_every_class_on_each(make_params, groups_of, seed):
    labels, groups = table(groups_of)
    _, grouped, confounded = stage.split(labels, groups, make_params({"split.seed": seed}).split)
    assert not confounded
    found = pd.DataFrame({"label": labels, "group": groups, "part": grouped})
    assert found.groupby("group")["part"].nunique().max() == 1
    assert (found.groupby("part")["label"].nunique() == 2).all()
    assert found["part"].value_counts(normalize=True)["test"] == pytest.approx(0.2, abs=0.1)


def test_the_random_split_is_stratified(params):
    labels, groups = table(BALANCED)
    random, _, _ = stage.split(labels, groups, params.split)
    shares = pd.crosstab(labels, random, normalize="index")
    np.testing.assert_allclose(shares["test"], 0.2, atol=0.01)
    np.testing.assert_allclose(shares["validation"], 0.16, atol=0.01)


@pytest.mark.parametrize(("share", "validation"), [(0.67, 0.2), (0.67, 0.67), (0.75, 0.5), (0.5, 0.5), (0.4, 0.34)])
def test_more_than_half_may_be_for_the_test(make_params, share, validation):
    labels, groups = table({"a": [f"a{i}" for i in range(24)], "o": [f"o{i}" for i in range(24)]})
    settings = make_params({"split.test_share": share, "split.validation_share": validation}).split
    random, grouped, confounded = stage.split(labels, groups, settings)
    assert not confounded
    for assignment, tolerance in ((random, 0.01), (grouped, 0.1)):
        shares = pd.crosstab(labels, assignment, normalize="index")
        np.testing.assert_allclose(shares["test"], share, atol=tolerance)
        np.testing.assert_allclose(shares["validation"], (1 - share) * validation, atol=tolerance)
    assert pd.DataFrame({"group": groups, "part": grouped}).groupby("group")["part"].nunique().max() == 1


@pytest.mark.parametrize("share", [0.01, 0.67, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_a_rare_class_is_in_every_split_whatever_the_shares(make_params, share, seed):
    labels = np.array(["common"] * 60 + ["rare"] * 3)
    groups = np.array([f"g{i % 6}" for i in range(63)])
    settings = make_params({"split.test_share": share, "split.validation_share": share, "split.seed": seed}).split
    random, _, _ = stage.split(labels, groups, settings)
    assert pd.crosstab(labels, random).loc["rare"].to_dict() == {"test": 1, "train": 1, "validation": 1}


def test_a_seed_decides(make_params):
    labels, groups = table(BALANCED)
    first, second, third = (stage.split(labels, groups, make_params({"split.seed": s}).split) for s in (0, 0, 1))
    for a, b, c in zip(first[:2], second[:2], third[:2], strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


def test_a_class_of_too_few_groups_is_marked_and_the_others_are_split(params):
    labels, groups = table({**BALANCED, "n": ["n0", "n1"]})
    random, grouped, confounded = stage.split(labels, groups, params.split)
    assert confounded == {"n": "2 groups, 3 needed"}
    assert pd.isna(grouped[labels == "n"]).all()
    assert not pd.isna(grouped[labels != "n"]).any()
    assert set(random[labels == "n"]) == {"train", "validation", "test"}


def test_a_few_cells_of_a_class_reach_every_part(params):
    labels, groups = table({"a": ["a0"], "n": ["n0"], "o": ["o0"]}, size=4)
    random, _, _ = stage.split(labels, groups, params.split)
    assert (pd.crosstab(labels, random) > 0).all(axis=None)


def test_two_cells_cannot_be_split(params):
    labels, groups = table({"a": ["a0"], "o": ["o0"]}, size=2)
    with pytest.raises(SplitError, match=r"too few cells to split: \{'a': 2, 'o': 2\}"):
        stage.split(labels, groups, params.split)


def test_chosen_groups_are_left_out(make_params):
    labels, groups = table(BALANCED)
    _, grouped, _ = stage.split(labels, groups, make_params({"split.leave_out": ["a3", "o5"]}).split)
    assert set(groups[grouped == "test"]) == {"a3", "o5"}
    with pytest.raises(SplitError, match=r"split\.leave_out names \['x'\]"):
        stage.split(labels, groups, make_params({"split.leave_out": ["x"]}).split)


def test_leave_one_group_out_visits_each():
    _, groups = table(BALANCED)
    folds = stage.leave_one_group_out(groups)
    assert [name for name, _ in folds] == sorted({*BALANCED["a"], *BALANCED["o"]})
    assert all(set(groups[rows]) == {name} for name, rows in folds)


def test_splits_survive_the_disk_and_answer(params, tmp_path):
    labels, groups = table({**BALANCED, "n": ["n0"]})
    random, grouped, confounded = stage.split(labels, groups, params.split)
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
