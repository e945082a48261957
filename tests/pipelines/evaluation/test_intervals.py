import tracemalloc

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import confusion_matrix, roc_auc_score

from benchmarks import verdicts
from pipelines.evaluation import intervals
from pipelines.evaluation.intervals import DIFFERENCE, choose_units, interval, make_units, spread, why_none


def one_metric(groups, values, labels=None):
    """Return the units of cells, and the mean of their (N,) `values` over classes: in all, and without each unit."""
    labels = np.full(len(groups), "x") if labels is None else labels
    units = make_units(np.array(groups), labels)
    targets = np.unique(labels, return_inverse=True)[1]
    shares = 1 / np.bincount(targets)[targets]
    return units, intervals.mean_without(np.array(values, float), targets, shares, units)


@pytest.mark.parametrize(
    ("groups", "kind", "fewest", "scarce"),
    [
        ("a1 a2 a3 b1 b2 b2", "groups", 2, "b"),
        ("a1 a2 a3 b1 b1 b1", "cells", 1, "b"),  # one run of the class b
        ("p1 p2 p2 p1 p2 p2", "groups", 2, "a"),  # patients with cells of both
        ("p1 a1 a1 p1 b1 b1", "groups", 2, "a"),  # no two groups alike, but each shares a class with another
    ],
)
def test_groups_are_left_out_where_each_class_has_two(groups, kind, fewest, scarce):
    units = choose_units(np.array(groups.split()), np.array(list("aaabbb")))
    assert (units.kind, units.fewest, units.scarce) == (kind, fewest, scarce)
    assert len(units.stratum) == (6 if kind == "cells" else len(set(groups.split())))


def test_groups_of_the_same_classes_are_a_stratum_and_one_alone_joins_those_most_like_it():
    groups, labels = ["a1", "a2", "b1", "b2", "p1", "p1"], list("aabbab")
    units = make_units(np.array(groups), np.array(labels))
    by_group = dict(zip(groups, units.stratum[units.place], strict=True))
    assert by_group["a1"] == by_group["a2"] != by_group["b1"] == by_group["b2"]
    assert by_group["p1"] in (by_group["a1"], by_group["b1"])
    assert (np.bincount(units.stratum) > 1).all()


def test_more_groups_than_are_left_out_one_by_one_are_left_out_several_at_once():
    names = np.repeat([f"g{i:03}" for i in range(250)], 2)
    units = make_units(names, np.full(500, "x"))
    assert len(units.stratum) == 100
    assert (units.place[::2] == units.place[1::2]).all()
    assert np.bincount(units.place).tolist() == [6] * 50 + [4] * 50


@pytest.mark.parametrize(
    ("classes", "each", "reason"),
    [
        ("ab", 3, None),
        ("ab", 2, "2 acquisition groups of class a; three are needed"),
        ("b", 1, "1 acquisition group of class b; three are needed"),
    ],
)
def test_below_three_groups_of_a_class_there_is_a_reason_and_no_interval(classes, each, reason):
    names = [f"{name}{i}" for name in classes for i in range(each)] + [f"c{i}" for i in range(5)]
    assert why_none(choose_units(np.array(names), np.array([name[0] for name in names]))) == reason


def test_what_is_left_out_is_left_out(rng):
    """Each figure without a unit is the figure of the other cells, as scikit-learn computes it."""
    targets = rng.integers(0, 3, 300)
    predicted, scores = rng.integers(0, 3, 300), rng.random(300).round(1)
    # Groups of one class, and patients of several.
    groups = np.where(
        rng.random(300) < 0.5, [f"p{i % 4}" for i in range(300)], [f"c{t}{i % 3}" for i, t in enumerate(targets)]
    )
    units = make_units(groups, targets.astype(str))
    counts = intervals.counts_without(targets, predicted, units, 3)
    areas = intervals.auc_without(scores, targets == 1, units)
    weights = rng.random(300)
    errors = intervals.mean_without(scores, np.zeros(300, int), weights, units)
    assert len(counts) == len(areas) == len(errors) == 1 + len(np.unique(groups))
    for i, row in enumerate([np.ones(300, bool), *(units.place != u for u in range(len(units.stratum)))]):
        np.testing.assert_array_equal(counts[i], confusion_matrix(targets[row], predicted[row]))
        assert areas[i] == pytest.approx(roc_auc_score(targets[row] == 1, scores[row]))
        assert errors[i] == pytest.approx(np.average(scores[row], weights=weights[row]))


def test_classes_keep_their_shares_where_a_group_is_left_out():
    units, means = one_metric(["a1", "a2", "b1", "b2"], [1, 0, 1, 1], np.array(list("aabb")))
    assert means.tolist() == [0.75, 0.5, 1.0, 0.75, 0.75]
    assert units.stratum.tolist() == [0, 0, 1, 1]


def test_the_interval_of_a_difference_is_the_t_interval_of_group_means(rng):
    values = rng.normal(size=6)
    units, means = one_metric([f"g{i}" for i in range(6)], values)
    ends = interval(means, units, DIFFERENCE)
    expected = stats.t.interval(0.95, 5, values.mean(), stats.sem(values))
    assert (ends.value, ends.low, ends.high) == pytest.approx((values.mean(), *expected))


def test_degrees_of_freedom_are_those_of_welch_and_no_more_than_groups_allow():
    labels = np.array(list("aaabbb"))
    groups = np.array([f"{name}{i}" for i, name in enumerate(labels)])
    one_sided = spread(one_metric(groups, [0, 1, 5, 2, 2, 2], labels)[1], make_units(groups, labels))
    assert one_sided.freedom == pytest.approx(2), "as many as the class that scatters has"
    alike = spread(one_metric(groups, [0, 1, 2, 0, 1, 2], labels)[1], make_units(groups, labels))
    assert alike.freedom == 4, "not the 6 that Welch's formula gives"
    # Each class: variance 1 of its groups, 1/3 of its mean; half of that of the mean over classes.
    assert alike.error == pytest.approx(np.sqrt((1 / 3 + 1 / 3) / 4))


def test_an_interval_stays_within_the_range_and_is_longer_where_there_is_room():
    units, means = one_metric(["a", "b", "c"], [0.9, 0.98, 1.0])
    ends = interval(means, units)
    assert 0 < ends.low < ends.value < ends.high < 1
    assert ends.value - ends.low > 3 * (ends.high - ends.value)
    half = interval(means / 2 - 0.5, units, (-0.5, 0.0))
    assert (half.low, half.high) == pytest.approx((ends.low / 2 - 0.5, ends.high / 2 - 0.5))


def test_groups_that_agree_to_the_last_cell_say_nothing_of_others():
    units, means = one_metric(["a", "b", "c"], [1.0, 1.0, 1.0])
    assert interval(means, units).degenerate
    assert not interval(one_metric(["a", "b", "c"], [1.0, 1.0, 0.9])[1], units).degenerate


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """The bars of `fatescope bench verdicts` at fewer draws, with three standard errors for chance."""
    draws = 300
    least = 0.93 - 3 * np.sqrt(0.93 * 0.07 / draws)
    rows = verdicts.cover(draws, (3, 8))
    assert len(rows) == 8
    for row in rows:
        assert row.values["coverage"] >= least, row
        assert row.values["width"] <= 1.3, row


def test_memory_grows_with_cells_and_not_with_the_units_left_out(rng):
    cells = 20_000
    labels, scores = rng.integers(0, 2, cells).astype(str), rng.random(cells)
    tracemalloc.start()
    try:
        units = make_units(np.arange(cells).astype(str), labels)
        assert len(units.stratum) == 200
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        intervals.auc_without(scores, labels == "1", units)
        assert tracemalloc.get_traced_memory()[1] - before < 100 * cells
    finally:
        tracemalloc.stop()
