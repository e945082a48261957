import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.evaluation import bootstrap


def test_weights_of_the_bootstrap_draw_whole_groups():
    units = np.array(["a", "a", "b", "b", "c", "c"])
    weights = bootstrap.resample(units, np.array(["x"] * 6), 50, 0)
    assert weights.shape == (51, 6)
    assert (weights[0] == 1).all()
    assert (weights[:, ::2] == weights[:, 1::2]).all()
    assert (weights.sum(1) == 6).all()


def test_a_group_of_two_classes_is_drawn_once_for_both():
    """As a patient with infected cells and others; those of one class are drawn among themselves."""
    units, labels = np.repeat(["p1", "p2", "p3", "q1", "q2"], 2), np.array(list("abababbbbb"))
    weights = bootstrap.resample(units, labels, 200, 0).astype(int)
    assert (weights[:, ::2] == weights[:, 1::2]).all()
    assert (weights[:, :6:2].sum(1) == 3).all()
    assert (weights[:, 6::2].sum(1) == 2).all()
    assert len(np.unique(weights, axis=0)) > 20


def test_groups_within_classes_are_drawn_class_by_class():
    """In the order of the classes, so that figures of earlier runs stay what they were."""
    units, labels = np.array(["u2", "u3", "v1", "u1", "v2"]), np.array(["b", "b", "a", "b", "a"])
    rng, weights = np.random.default_rng(7), bootstrap.resample(units, labels, 30, 7)
    np.testing.assert_array_equal(weights[1:, [2, 4]], rng.multinomial(2, [0.5] * 2, 30))
    np.testing.assert_array_equal(weights[1:, [3, 0, 1]], rng.multinomial(3, [1 / 3] * 3, 30))


@pytest.mark.parametrize(
    ("groups", "kind", "fewest"),
    [
        ("a1 a2 a3 b1 b2 b2", "groups", 2),
        ("a1 a2 a3 b1 b1 b1", "cells", 0),  # one run of the class b
        ("p1 p2 p2 p1 p2 p2", "groups", 2),  # patients with cells of both
        ("p1 a1 a1 p1 b1 b1", "cells", 0),  # two groups of each class, but no two alike
    ],
)
def test_groups_are_drawn_where_there_are_two_to_exchange(groups, kind, fewest):
    units = bootstrap.choose_units(np.array(groups.split()), np.array(list("aaabbb")))
    assert (units.kind, units.fewest) == (kind, fewest)
    assert len(np.unique(units.names)) == (6 if kind == "cells" else len(set(groups.split())))


def test_auc_is_that_of_scikit_learn(rng):
    scores, positive, weight = rng.random(200).round(1), rng.random(200) < 0.4, rng.integers(0, 4, 200).astype(float)
    areas = bootstrap.auc(scores, positive, np.stack([np.ones(200), weight]))
    assert areas[0] == pytest.approx(roc_auc_score(positive, scores))
    assert areas[1] == pytest.approx(roc_auc_score(positive, scores, sample_weight=weight))


def test_draws_take_a_byte_a_cell_and_figures_no_more_for_more_draws(rng):
    cells, repeats = 20_000, 200
    labels, scores = rng.integers(0, 2, cells).astype(str), rng.random(cells)
    tracemalloc.start()
    try:
        weights = bootstrap.resample(np.arange(cells).astype(str), labels, repeats, 0)
        assert tracemalloc.get_traced_memory()[1] < 3 * cells * repeats
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        bootstrap.auc(scores, labels == "1", weights)
        assert tracemalloc.get_traced_memory()[1] - before < 100 * cells
    finally:
        tracemalloc.stop()
