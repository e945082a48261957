"""Accuracy without labels, and from few of them: their promises, by simulation."""

import numpy as np
import pytest
from scipy import stats

from fatescope.inference import accuracy, evidence, labelling
from fatescope.inference.accuracy import Error

CELLS = 500


def cells(rng, shares, size=CELLS, skill=1.7, trust=1.0):
    """Draw cells of K classes, and probabilities for equal shares that are calibrated where `trust` is 1."""
    targets = rng.choice(len(shares), size, p=shares)
    places = rng.normal(size=(size, len(shares)))
    places[np.arange(size), targets] += skill
    powers = np.exp(trust * skill * places)
    return targets, powers / powers.sum(1, keepdims=True)


def truth(targets, probabilities, classes):
    right = probabilities.argmax(1) == targets
    return np.mean([right[targets == k].mean() for k in np.flatnonzero(classes)])


def exact(size):
    return np.full(size, 1 / size)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_estimate_follows_the_mixture_and_its_interval_holds(classes):
    rng, known = np.random.default_rng(0), Error(0.0, 0.0, 30)
    errors, held, shares = [], [], []
    for _ in range(300):
        shares = rng.dirichlet(np.ones(classes))
        targets, probabilities = cells(rng, shares)
        found = accuracy.estimate(probabilities, exact(classes), known)
        real = truth(targets, probabilities, found.classes & (np.bincount(targets, minlength=classes) > 0))
        errors.append(found.value - real)
        held.append(found.low <= real <= found.high)
    assert np.abs(errors).mean() <= 0.03
    assert abs(np.mean(errors)) <= 0.005, "calibrated probabilities give no bias"
    assert np.mean(held) >= 0.93


def runs(rng, groups, spread, trust=1.0):
    """Draw cells of groups of two classes, whose places differ from group to group."""
    parts = []
    for k in range(2):
        for group in range(groups):
            targets, probabilities = cells(rng, np.eye(2)[k], 80, 1.7, trust)
            moved = np.log(probabilities[:, 0] / probabilities[:, 1]) + rng.normal(0, spread)
            first = 1 / (1 + np.exp(-moved))
            parts.append((targets, np.stack([first, 1 - first], 1), [f"{k}{group}"] * 80))
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


@pytest.mark.parametrize("groups", [3, 8])
def test_intervals_hold_in_windows_of_one_run_a_class_at_few_groups(groups):
    rng, held = np.random.default_rng(1), []
    for _ in range(30):
        targets, probabilities, names = runs(rng, groups, 1.0)
        known = accuracy.learn_error(probabilities, targets, names, exact(2))
        for _ in range(10):
            targets, probabilities, _ = runs(rng, 1, 1.0)
            found = accuracy.estimate(probabilities, exact(2), known)
            held.append(found.low <= truth(targets, probabilities, found.classes) <= found.high)
    assert np.mean(held) >= 0.93


def test_overconfidence_is_learnt_as_a_bias_and_taken_off():
    rng = np.random.default_rng(2)
    targets, probabilities, names = runs(rng, 20, 0.0, trust=3.0)
    known = accuracy.learn_error(probabilities, targets, names, exact(2))
    assert known.bias > 0.05
    window, sure, _ = runs(rng, 10, 0.0, trust=3.0)
    found = accuracy.estimate(sure, exact(2), known)
    assert found.value == pytest.approx(truth(window, sure, found.classes), abs=0.03)


def test_two_groups_of_a_class_do_not_tell_how_far_an_estimate_is_off():
    targets, probabilities, names = runs(np.random.default_rng(3), 2, 1.0)
    assert accuracy.learn_error(probabilities, targets, names, exact(2)) is None


def test_of_a_pure_culture_the_recall_of_its_class_is_estimated():
    _, probabilities = cells(np.random.default_rng(4), [1.0, 0.0])
    found = accuracy.estimate(probabilities, exact(2), Error(0.0, 0.0, 30))
    assert found.classes.tolist() == [True, False]
    assert found.value == pytest.approx((probabilities.argmax(1) == 0).mean(), abs=0.05)


def from_draw(rng, shares, count, trust=1.0, told=1.0):
    targets, probabilities = cells(rng, shares, trust=trust)
    expected = accuracy.expect(probabilities, exact(len(shares)))
    drawn = labelling.draw(expected, count, rng)
    labels = np.where(rng.random(count) < told, targets[drawn.rows], -1)
    found = labelling.from_labels(
        expected.posteriors[drawn.rows], expected.predicted[drawn.rows], labels, drawn.sizes, drawn.keys[-1],
        expected.table,
    )  # fmt: skip
    return found, truth(targets, probabilities, np.ones(len(shares)))


@pytest.mark.parametrize("trust", [1.0, 2.0], ids=["calibrated", "overconfident"])
def test_labels_of_drawn_cells_give_an_interval_that_holds_whatever_the_probabilities_are(trust):
    rng = np.random.default_rng(5)
    found = [from_draw(rng, [0.7, 0.3], 100, trust) for _ in range(300)]
    assert abs(np.mean([each.value - real for each, real in found])) <= 0.01
    assert np.mean([each.low <= real <= each.high for each, real in found]) >= 0.93


def test_two_estimates_together_are_narrower_and_none_where_they_contradict_each_other():
    one = accuracy.Estimate(0.8, 0.7, 0.87, np.array([True, True]))
    other = accuracy.Estimate(0.84, 0.78, 0.885, np.array([True, True]))
    both = accuracy.combine(one, other)
    assert one.value < both.value < other.value
    assert both.high - both.low < other.high - other.low
    assert accuracy.combine(one, accuracy.Estimate(0.95, 0.93, 0.965, one.classes)) is None


def test_too_few_labels_give_no_interval():
    assert from_draw(np.random.default_rng(6), [0.5, 0.5], labelling.MIN_LABELS - 1)[0] is None


def test_all_cells_labelled_give_the_truth():
    found, real = from_draw(np.random.default_rng(7), [0.6, 0.4], CELLS)
    assert found.value == pytest.approx(real)
    assert found.high - found.low < 1e-9


def batch(rng, skill, count=40):
    targets, probabilities = cells(rng, [0.5, 0.5], skill=skill)
    expected = accuracy.expect(probabilities, exact(2))
    drawn = labelling.draw(expected, count, rng)
    return evidence.Answers(expected.predicted[drawn.rows], targets[drawn.rows], drawn.sizes, CELLS)


ALARM = -np.log(evidence.LEVEL)


def test_looks_without_end_raise_few_false_alarms():
    """The promise is kept, and no more than that: a hundred models are looked at after each of ten batches."""
    rng, kept = np.random.default_rng(8), float(stats.norm.cdf(1.7 / np.sqrt(2)))
    alarms = 0
    for _ in range(100):
        batches, alarm = [], False
        for _ in range(10):
            batches.append(batch(rng, 1.7))
            alarm = alarm or evidence.evidence(batches, 2, kept) >= ALARM
        alarms += alarm
    assert alarms <= 1


@pytest.mark.parametrize("good", [0, 10])
def test_a_model_that_gets_worse_is_found_however_long_it_was_good(good):
    rng = np.random.default_rng(9)
    batches = [batch(rng, 1.7) for _ in range(good)]
    while evidence.evidence(batches, 2, 0.83) < ALARM:
        batches.append(batch(rng, 0.7))
        assert len(batches) - good <= 10
    assert len(batches) > good


@pytest.mark.parametrize("freedom", [2, 3, 5, 20])
def test_the_quantile_is_that_of_students_t(freedom):
    assert accuracy.student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.01)


def test_without_labels_there_is_no_evidence():
    assert evidence.evidence([], 2, 0.9) == 0
    nothing = np.array([], np.int64)
    assert evidence.evidence([evidence.Answers(nothing, nothing, np.array([]), CELLS)], 2, 0.9) <= 0
