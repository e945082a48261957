"""No acquisition group changes its side, and every class has groups on each."""

import numpy as np
import pytest

from fatescope.errors import SplitError
from pipelines.splitting.by_group import deal_groups, find_confounded
from tests.support.splitting import BALANCED, shares, table

SHARED = {"sick": [f"p{i}" for i in range(12)], "well": [f"p{i}" for i in range(6, 20)]}


@pytest.mark.parametrize("groups_of", [BALANCED, SHARED])
@pytest.mark.parametrize("seed", range(5))
def test_every_class_has_groups_on_each_side_and_about_its_shares(make_params, groups_of, seed):
    labels, groups = table(groups_of)
    sides = deal_groups(labels, groups, [], make_params({"split.seed": seed}).split)
    assert list(sides) == sorted(set(groups))
    assert not find_confounded(labels, groups, sides)
    found = shares(labels, np.array([sides[group] for group in groups]))
    for split, share in (("test", 0.25), ("validation", 0.1875)):
        assert (abs(found[split] - share) < 0.15).all(), "about one group of nine"


@pytest.mark.parametrize(("share", "validation"), [(0.67, 0.2), (0.67, 0.67), (0.75, 0.5), (0.5, 0.5), (0.4, 0.34)])
def test_any_share_may_be_for_the_test(make_params, share, validation):
    labels, groups = table({"a": [f"a{i}" for i in range(50)], "o": [f"o{i}" for i in range(50)]})
    settings = make_params({"split.test_share": share, "split.validation_share": validation}).split
    sides = deal_groups(labels, groups, [], settings)
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
        sides = deal_groups(labels, groups, imported[:count], params)
        assert {group: sides[group] for group in known} == known
        known = sides
    assert not find_confounded(labels, groups, sides)


def test_the_sides_of_a_group_do_not_depend_on_its_name_alone(make_params):
    """The first of three is for training, and the others are what is missing, in an order that the seed decides."""
    labels, groups = table({"a": ["x", "y", "z"]})
    found = {tuple(deal_groups(labels, groups, [], make_params({"split.seed": s}).split).values()) for s in range(40)}
    assert len(found) > 3
    assert all(sorted(sides) == ["test", "train", "validation"] for sides in found)


def test_groups_are_dealt_in_the_order_of_their_import(params):
    labels, groups = table({"a": ["a", "b", "c", "d"]})
    by_name = deal_groups(labels, groups, [], params.split)
    assert list(by_name) == ["a", "b", "c", "d"]
    assert deal_groups(labels, groups, ["a", "b"], params.split) == by_name
    # One that is not in the record is later than those that are, also with a name before theirs.
    kept = groups != "a"
    before = deal_groups(labels[kept], groups[kept], ["b", "c", "d"], params.split)
    after = deal_groups(labels, groups, ["b", "c", "d"], params.split)
    assert list(after) == ["b", "c", "d", "a"]
    assert {group: after[group] for group in before} == before
    # A group of which nothing is left counts no more.
    assert deal_groups(labels, groups, ["gone", "b", "c", "d"], params.split) == after


def test_a_seed_decides_the_deal(make_params):
    labels, groups = table(BALANCED)
    deals = [deal_groups(labels, groups, [], make_params({"split.seed": seed}).split) for seed in (0, 0, 1)]
    assert deals[0] == deals[1] != deals[2]


def test_a_class_of_too_few_groups_is_marked_and_the_others_are_not(params):
    labels, groups = table({**BALANCED, "n": ["n0", "n1"]})
    sides = deal_groups(labels, groups, [], params.split)
    assert find_confounded(labels, groups, sides) == {"n": "2 groups, 3 needed"}


def test_a_class_whose_groups_went_elsewhere_for_the_sake_of_others_is_marked():
    labels, groups = table({"a": ["x", "y", "z"]})
    sides = {"x": "train", "y": "train", "z": "test"}
    assert find_confounded(labels, groups, sides) == {"a": "none of its 3 groups is for validation; add groups"}


def test_chosen_groups_are_left_out(make_params):
    labels, groups = table(BALANCED)
    sides = deal_groups(labels, groups, [], make_params({"split.leave_out": ["a3", "o5"]}).split)
    assert {group for group, side in sides.items() if side == "test"} == {"a3", "o5"}
    assert set(sides) == set(groups)
    with pytest.raises(SplitError, match=r"split\.leave_out names \['x'\]"):
        deal_groups(labels, groups, [], make_params({"split.leave_out": ["x"]}).split)
