import shutil

import numpy as np
import pandas as pd
import pytest

from fatescope.data import splits
from fatescope.data.tracks import Tracks
from fatescope.errors import DataError, SplitError
from pipelines.stages import ingest
from pipelines.stages import split as stage
from tests.support.params import write_params


def table(groups_of, size=20):
    """Return labels and groups of cells: class → names of its groups."""
    rows = [(label, group) for label, groups in groups_of.items() for group in groups for _ in range(size)]
    return (np.array(column) for column in zip(*rows, strict=True))


def hashes(count, seed=0):
    return np.random.default_rng(seed).integers(-(2**63), 2**63, count)


def shares(labels, assignment):
    """Return the share of each split, by class."""
    return pd.crosstab(labels, assignment, normalize="index")


BALANCED = {"a": [f"a{i}" for i in range(9)], "o": [f"o{i}" for i in range(9)]}
SHARED = {"sick": [f"p{i}" for i in range(12)], "well": [f"p{i}" for i in range(6, 20)]}


@pytest.mark.parametrize("groups_of", [BALANCED, SHARED])
@pytest.mark.parametrize("seed", range(5))
def test_every_class_has_groups_on_each_side_and_about_its_shares(make_params, groups_of, seed):
    labels, groups = table(groups_of)
    sides = stage.deal_groups(labels, groups, [], make_params({"split.seed": seed}).split)
    assert list(sides) == sorted(set(groups))
    assert not stage.find_confounded(labels, groups, sides)
    found = shares(labels, np.array([sides[group] for group in groups]))
    for split, share in (("test", 0.25), ("validation", 0.1875)):
        assert (abs(found[split] - share) < 0.15).all(), "about one group of nine"


@pytest.mark.parametrize(("share", "validation"), [(0.67, 0.2), (0.67, 0.67), (0.75, 0.5), (0.5, 0.5), (0.4, 0.34)])
def test_any_share_may_be_for_the_test(make_params, share, validation):
    labels, groups = table({"a": [f"a{i}" for i in range(50)], "o": [f"o{i}" for i in range(50)]})
    settings = make_params({"split.test_share": share, "split.validation_share": validation}).split
    sides = stage.deal_groups(labels, groups, [], settings)
    found = shares(labels, np.array([sides[group] for group in groups]))
    np.testing.assert_allclose(found["test"], share, atol=0.03)
    np.testing.assert_allclose(found["validation"], (1 - share) * validation, atol=0.03)


@pytest.mark.parametrize("seed", range(20))
def test_a_group_keeps_its_side_whatever_is_imported_later(make_params, seed):
    rng, params = np.random.default_rng(seed), make_params({"split.seed": seed}).split
    # Groups of one class or of several, of any names, in any order.
    classes_of = {f"g{i}": rng.choice(["a", "b", "c", "d"], rng.integers(1, 4), replace=False) for i in range(40)}
    imported = rng.permutation(list(classes_of)).tolist()
    known = {}
    for count in (3, 4, 9, 10, 23, 40):
        rows = [(label, group) for group in imported[:count] for label in classes_of[group]]
        # As many cells as it happens to be: they may be more, or others be refused, the next time.
        rows = [rows[i] for i in rng.permutation(np.repeat(np.arange(len(rows)), rng.integers(1, 5, len(rows))))]
        labels, groups = (np.array(column) for column in zip(*rows, strict=True))
        sides = stage.deal_groups(labels, groups, imported[:count], params)
        assert {group: sides[group] for group in known} == known
        known = sides
    assert not stage.find_confounded(labels, groups, sides)


def test_the_sides_of_a_group_do_not_depend_on_its_name_alone(make_params):
    """The first of three is for training, and the others are what is missing, in an order that the seed decides."""
    labels, groups = table({"a": ["x", "y", "z"]})
    found = {
        tuple(stage.deal_groups(labels, groups, [], make_params({"split.seed": s}).split).values()) for s in range(40)
    }
    assert len(found) > 3
    assert all(sorted(sides) == ["test", "train", "validation"] for sides in found)


def test_groups_are_dealt_in_the_order_of_their_import(params):
    labels, groups = table({"a": ["a", "b", "c", "d"]})
    by_name = stage.deal_groups(labels, groups, [], params.split)
    assert list(by_name) == ["a", "b", "c", "d"]
    assert stage.deal_groups(labels, groups, ["a", "b"], params.split) == by_name
    # One that is not in the record is later than those that are, also with a name before theirs.
    kept = groups != "a"
    before = stage.deal_groups(labels[kept], groups[kept], ["b", "c", "d"], params.split)
    after = stage.deal_groups(labels, groups, ["b", "c", "d"], params.split)
    assert list(after) == ["b", "c", "d", "a"]
    assert {group: after[group] for group in before} == before
    # A group of which nothing is left counts no more.
    assert stage.deal_groups(labels, groups, ["gone", "b", "c", "d"], params.split) == after


@pytest.mark.parametrize("share", [0.01, 0.67, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_a_rare_class_is_in_every_split_whatever_the_shares(make_params, share, seed):
    labels = np.array(["common"] * 60 + ["rare"] * 3)
    settings = make_params({"split.test_share": share, "split.validation_share": share, "split.seed": seed}).split
    random = stage.assign_at_random(labels, hashes(63), settings)
    assert pd.crosstab(labels, random).loc["rare"].to_dict() == {"test": 1, "train": 1, "validation": 1}


def test_the_random_split_has_its_shares_of_each_class(params):
    labels = np.repeat(["a", "o"], 20_000)
    found = shares(labels, stage.assign_at_random(labels, hashes(40_000), params.split))
    np.testing.assert_allclose(found["test"], 0.25, atol=0.012)  # four standard errors
    np.testing.assert_allclose(found["validation"], 0.1875, atol=0.011)


def test_a_cell_keeps_its_random_split_and_equal_pixels_are_on_one_side(params):
    labels, pixels = np.repeat(["a", "o"], 600), hashes(1200)
    pixels[600:700] = pixels[:100]
    first = stage.assign_at_random(labels, pixels, params.split)
    assert (first[600:700] == first[:100]).all()
    order = np.random.default_rng(1).permutation(1200)
    more = stage.assign_at_random(
        np.append(labels[order], ["a"] * 500), np.append(pixels[order], hashes(500, 1)), params.split
    )
    assert (more[:1200] == first[order]).all()


def test_a_seed_decides(make_params):
    labels, groups = table(BALANCED)
    first, second, third = (make_params({"split.seed": seed}).split for seed in (0, 0, 1))
    deals = [stage.deal_groups(labels, groups, [], settings) for settings in (first, second, third)]
    assert deals[0] == deals[1] != deals[2]
    random = [stage.assign_at_random(labels, hashes(len(labels)), settings) for settings in (first, second, third)]
    np.testing.assert_array_equal(random[0], random[1])
    assert (random[0] != random[2]).mean() > 0.2


def test_a_class_of_too_few_groups_is_marked_and_the_others_are_not(params):
    labels, groups = table({**BALANCED, "n": ["n0", "n1"]})
    sides = stage.deal_groups(labels, groups, [], params.split)
    assert stage.find_confounded(labels, groups, sides) == {"n": "2 groups, 3 needed"}


def test_a_class_whose_groups_went_elsewhere_for_the_sake_of_others_is_marked():
    labels, groups = table({"a": ["x", "y", "z"]})
    sides = {"x": "train", "y": "train", "z": "test"}
    assert stage.find_confounded(labels, groups, sides) == {"a": "none of its 3 groups is for validation; add groups"}


def test_two_cells_cannot_be_split(params):
    with pytest.raises(SplitError, match=r"too few cells to split: \{'a': 2, 'o': 2\}"):
        stage.assign_at_random(np.array(["a", "a", "o", "o"]), hashes(4), params.split)


def test_chosen_groups_are_left_out(make_params):
    labels, groups = table(BALANCED)
    sides = stage.deal_groups(labels, groups, [], make_params({"split.leave_out": ["a3", "o5"]}).split)
    assert {group for group, side in sides.items() if side == "test"} == {"a3", "o5"}
    assert set(sides) == set(groups)
    with pytest.raises(SplitError, match=r"split\.leave_out names \['x'\]"):
        stage.deal_groups(labels, groups, [], make_params({"split.leave_out": ["x"]}).split)


def test_leave_one_group_out_visits_each():
    _, groups = table(BALANCED)
    folds = stage.leave_one_group_out(groups)
    assert [name for name, _ in folds] == sorted({*BALANCED["a"], *BALANCED["o"]})
    assert all(set(groups[rows]) == {name} for name, rows in folds)


def test_splits_survive_the_disk_and_answer(params, tmp_path):
    labels, groups = table({**BALANCED, "n": ["n0"]})
    sides = stage.deal_groups(labels, groups, [], params.split)
    confounded, random = stage.find_confounded(labels, groups, sides), "train"
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


def test_no_cell_with_several_images_is_on_two_sides_of_the_random_scheme(make_params):
    keys = np.repeat(hashes(200), 4)
    codes = np.repeat(np.arange(200) % 3, 4).astype(np.int8)
    # Of the last class there are three cells: their sides are not left to chance.
    codes[codes == 2] = np.where(np.arange((codes == 2).sum()) < 12, 2, -1)
    mixed = np.random.default_rng(0).permutation(len(keys))
    of_cells = Tracks(keys[mixed], np.zeros(len(keys)))
    sides = stage.draw_tracks(codes[mixed], ["a", "b", "c"], of_cells, make_params().split)
    together = pd.Series(sides).groupby(of_cells.keys).nunique()
    assert together.max() == 1
    assert (sides[codes[mixed] < 0] == -1).all()
    counts = pd.crosstab(codes[mixed], sides).loc[[0, 1, 2], [0, 1, 2]]
    assert (counts.loc[2] == 4).all()
    assert (counts.loc[[0, 1], 2] / counts.loc[[0, 1]].sum(axis=1)).between(0.15, 0.35).all()


def test_a_cell_with_several_images_keeps_its_side_when_more_are_added(make_params):
    keys, settings = hashes(300), make_params().split
    codes = (np.arange(300) % 2).astype(np.int8)
    before = stage.draw_tracks(codes, ["a", "b"], Tracks(keys, np.zeros(300)), settings)
    later = stage.draw_tracks(np.tile(codes, 3), ["a", "b"], Tracks(np.tile(keys, 3), np.zeros(900)), settings)
    np.testing.assert_array_equal(later, np.tile(before, 3))


def test_images_of_one_cell_of_two_classes_are_refused(make_params):
    of_cells = Tracks(np.array([1, 1, 2, 3, 4, 5, 6]), np.zeros(7))
    codes = np.array([0, 1, 0, 0, 0, 1, 1], np.int8)
    with pytest.raises(SplitError, match="images of one cell are of a and b; dataset"):
        stage.draw_tracks(codes, ["a", "b"], of_cells, make_params().split)
