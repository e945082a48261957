import numpy as np
import pytest

from fatescope.inference import composition, uncertainty


@pytest.mark.parametrize("classes", [2, 4])
def test_the_interval_exists_however_few_cells_there_are_and_however_sure_the_model_is(classes):
    # A few cells leave directions in which the data say nothing, and rounding errors must not decide there.
    rng = np.random.default_rng(0)
    prior, error = np.full(classes, 1 / classes), np.zeros((classes, classes))
    for cells in (1, 2, 3, 10):
        for _ in range(500):
            logits = rng.normal(0, rng.choice([1, 5, 20]), (cells, classes)).astype(np.float32)
            estimate = composition.estimate(uncertainty.softmax(logits), prior, error)
            assert (estimate.low <= estimate.shares).all()
            assert (estimate.shares <= estimate.high).all()


def test_the_interval_is_that_of_the_binomial_where_every_cell_is_certain():
    probabilities = np.repeat(np.eye(2, dtype=np.float32), [30, 70], axis=0)
    estimate = composition.estimate(probabilities, np.full(2, 0.5), np.zeros((2, 2)))
    assert estimate.shares == pytest.approx([0.3, 0.7])
    assert estimate.high[0] - estimate.low[0] == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 100))


def test_of_many_cells_of_a_group_some_are_taken_over_its_whole_length(monkeypatch):
    targets = np.repeat([0, 1], [40, 12])
    groups = np.array(["b"] * 20 + ["a"] * 20 + ["a"] * 4 + ["c"] * 8)
    whole = composition.rows_by_group(targets, groups)
    assert [rows.tolist() for rows in whole[0]] == [list(range(20, 40)), list(range(20))]
    assert [rows.tolist() for rows in whole[1]] == [list(range(40, 44)), list(range(44, 52))]
    monkeypatch.setattr(composition, "GROUP_CELLS", 5)
    some = composition.rows_by_group(targets, groups)
    assert [rows.tolist() for rows in some[0]] == [[20, 24, 29, 34, 39], [0, 4, 9, 14, 19]]
    assert [len(rows) for rows in some[1]] == [4, 5]


def test_some_cells_of_each_group_tell_how_far_groups_are_apart(monkeypatch):
    rng = np.random.default_rng(0)
    targets, groups = rng.integers(0, 2, 20_000), rng.integers(0, 12, 20_000)
    logits = 2 * np.eye(2)[targets] + rng.normal(0, 0.8, (12, 2))[groups] + rng.normal(0, 1, (20_000, 2))
    probabilities, prior = uncertainty.softmax(logits.astype(np.float32)), np.full(2, 0.5)
    whole = composition.learn_error(probabilities, targets, groups, prior, seed=0)
    monkeypatch.setattr(composition, "GROUP_CELLS", 300)
    some = composition.learn_error(probabilities, targets, groups, prior, seed=0)
    assert np.sqrt(some[0, 0]) == pytest.approx(np.sqrt(whole[0, 0]), rel=0.1)
