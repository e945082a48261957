import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, softmax

from fatescope.inference.thresholds import conformal
from fatescope.inference.uncertainty import UNSURE, assess, coarse_calls
from pipelines.training import coarse_calibration
from pipelines.training.calibration import calibrate
from pipelines.training.coarse_calibration import count_units, fit_thresholds, lower_end
from pipelines.training.cross_fit import Unseen

CLASSES = ["astrocyte", "oligodendrocyte", "RA/SHH", "NT3", "fibroblast"]
HIERARCHY = {"neuron": ["RA/SHH", "NT3"], "glia": ["astrocyte", "oligodendrocyte"]}
JOINED = {name: [CLASSES.index(member) for member in members] for name, members in HIERARCHY.items()}
SHARES = np.array([0.3, 0.2, 0.25, 0.15, 0.1])
COVERAGE = 0.9


def draw(rng, groups, differ, cells=1500, apart=1.6):
    """Draw probabilities of a model, classes and groups: fine classes overlap, and groups of a class `differ`."""
    targets = np.repeat(np.arange(5), (SHARES * cells).astype(int))
    places = targets * groups + rng.integers(0, groups, len(targets))
    centres = np.array([[apart, 0.4], [apart, -0.4], [-apart, 0.4], [-apart, -0.4], [0, apart]])
    shifts = rng.normal(0, differ, (5 * groups, 2))
    points = centres[targets] + shifts[places] + rng.normal(size=(len(targets), 2))
    logits = -((points[:, None] - centres) ** 2).sum(2) / 2
    return softmax(logits, axis=1).astype(np.float32), targets, places


def assessed(probabilities, conformal):
    return assess(probabilities, np.zeros(len(probabilities), np.float32), conformal)


def simulate(rng, trainings, groups, differ, **drawn):
    """Return of each coarse class of each training how often its calls of new cells are right, and two more shares.

    Those are the share of all cells that it calls, and the largest share of another class. Once by the thresholds, and
    once by conformal sets alone. Calls of new cells are of 200 other groups a class.
    """
    found = {"thresholds": [], "sets": []}
    for _ in range(trainings):
        probabilities, targets, places = draw(rng, groups, differ, **drawn)
        reached = conformal(probabilities, targets, COVERAGE)
        known = assessed(probabilities, reached)
        thresholds = fit_thresholds(known, targets, places, CLASSES, HIERARCHY, COVERAGE)
        probabilities, targets, _ = draw(rng, 200, differ, **drawn | {"cells": 6000})
        unseen = assessed(probabilities, reached)
        for rule, used in (("thresholds", thresholds), ("sets", None)):
            calls = coarse_calls(unseen, CLASSES, HIERARCHY, used)
            labels = np.array([call.label if call else "" for call in calls])
            for name, members in JOINED.items():
                called, right = (labels == name) & (unseen.verdicts == UNSURE), np.isin(targets, members)
                others = [called[targets == k].mean() for k in range(5) if k not in members]
                found[rule].append((right[called].mean() if called.any() else np.nan, called.mean(), max(others)))
    return {rule: np.array(rows) for rule, rows in found.items()}


@pytest.mark.parametrize(("groups", "differ"), [(2, 0.4), (3, 0.6), (4, 0.8), (8, 0.0), (8, 0.6)])
def test_nine_in_ten_calls_of_new_cells_are_right_in_seventeen_of_twenty_trainings(rng, groups, differ):
    found = simulate(rng, 40, groups, differ)["thresholds"]
    right = found[~np.isnan(found[:, 0]), 0]
    assert len(right) > len(found) / 4  # or there would be nothing to hold
    # What the interval allows, and what chance adds in so many draws.
    wrong = (1 - coarse_calibration.LEVEL) / 2
    assert (right < COVERAGE).sum() <= wrong * len(found) + 2 * np.sqrt(wrong * (1 - wrong) * len(found))
    assert right.mean() > COVERAGE
    # At most a tenth of the cells of each other class is called so; far less, where most calls are to be right.
    assert found[:, 2].mean() <= 1 - COVERAGE


def test_conformal_sets_alone_promise_nothing_of_calls(rng):
    """What a coarse class was called by before it had thresholds, where little is told apart."""
    found = simulate(rng, 20, 8, 0.6, apart=0.6)
    assert np.nanmean(found["sets"][:, 0]) < 0.87
    given = ~np.isnan(found["thresholds"][:, 0])
    assert given.mean() < 0.1  # nothing is called, rather than wrongly
    assert (found["thresholds"][given, 0] < COVERAGE).sum() <= 0.05 * len(given)


def test_more_cells_are_called_than_by_conformal_sets_where_that_is_right(rng):
    found = simulate(rng, 10, 8, 0.0)
    assert found["thresholds"][:, 1].mean() > found["sets"][:, 1].mean() + 0.02


def test_no_more_than_a_tenth_of_another_class_is_called_so(rng):
    """Fibroblasts that all look like neurons are too few to make neurons wrong, and are not to be called so."""
    neurons, others = 2000, 40
    probability = np.concatenate([rng.uniform(0.5, 1, neurons), np.full(others, 0.72)])
    targets = np.repeat([2, 4], [neurons, others])
    probabilities = np.zeros((neurons + others, 5), np.float32)
    probabilities[:, 2:4] = probability[:, None] / 2
    probabilities[:, 4] = 1 - probability
    known = assessed(probabilities, [0.2] * 5)
    groups = np.arange(len(targets)) % 20
    assert fit_thresholds(known, targets, groups, CLASSES, HIERARCHY, COVERAGE) == {"neuron": 0.75}
    # Of eight cells it is not known what a tenth of such cells does.
    few = np.arange(len(targets)) < neurons + 8
    found = fit_thresholds(assessed(probabilities[few], [0.2] * 5), targets[few], groups[few], CLASSES, HIERARCHY, 0.9)
    assert found == {}


def test_cells_that_are_sure_or_unlike_the_training_cells_do_not_count(rng):
    probabilities, targets, groups = draw(rng, 8, 0.0)
    reached = conformal(probabilities, targets, COVERAGE)
    thresholds = fit_thresholds(assessed(probabilities, reached), targets, groups, CLASSES, HIERARCHY, COVERAGE)
    sure = np.tile(np.float32([0, 0, 1, 0, 0]), (5000, 1))
    far = np.tile(np.float32([0, 0, 0.5, 0.5, 0]), (5000, 1))
    more = assess(
        np.concatenate([probabilities, sure, far]),
        np.repeat(np.float32([0, 0, 2]), [len(targets), 5000, 5000]),
        reached,
    )
    others = np.zeros(10_000, int)
    rows = np.concatenate([targets, others]), np.concatenate([groups, others])
    assert thresholds
    assert fit_thresholds(more, *rows, CLASSES, HIERARCHY, COVERAGE) == thresholds


def test_few_calls_and_calls_of_few_groups_prove_little():
    every, groups = np.ones(200, bool), np.arange(200) % 20
    units = count_units(groups, np.array(["a", "b"])[groups % 2])
    assert lower_end(every[:15], units.among(np.arange(200) < 15)) < COVERAGE
    assert lower_end(every[:20], units.among(np.arange(200) < 20)) > COVERAGE
    assert lower_end(every[:0], units.among(~every)) == lower_end(~every, units) == 0
    scattered, together = every.copy(), every.copy()
    scattered[:10] = False  # half of the groups have one
    together[groups == 7] = False
    assert scattered.sum() == together.sum()
    assert lower_end(together, units) < 0.88
    assert lower_end(scattered, units) > COVERAGE


def test_groups_of_a_class_are_compared_where_there_are_enough():
    """Each group is of one class, so that wrong calls are of other groups: that alone is no sign that groups differ."""
    for each, alike in ((coarse_calibration.MIN_GROUPS, False), (coarse_calibration.MIN_GROUPS - 1, True)):
        labels = np.repeat(["a", "b"], 20 * each)
        groups = np.arange(40 * each) // 20
        units = count_units(groups, labels)
        assert (units.stratum == 0).all() == alike
        right = (labels == "a") | (np.arange(40 * each) % 20 > 3)
        exact = stats.beta.ppf((1 - coarse_calibration.LEVEL) / 2, right.sum(), (~right).sum() + 1)
        assert (lower_end(right, units) < exact - 0.005) == alike


def test_unseen_cells_are_assessed_as_the_model_will(rng, make_params):
    probabilities, targets, groups = draw(rng, 8, 0.0, cells=400)
    logits = np.float32(3 * log_softmax(np.log(np.maximum(probabilities, 1e-9)), axis=1))
    unseen = Unseen(np.arange(len(targets)), logits, np.float32(rng.uniform(1, 2, len(targets))))
    found = calibrate(unseen, targets, groups, np.full(5, 0.2), make_params().calibrate)
    known = coarse_calibration.assess_unseen(unseen, found)
    np.testing.assert_allclose(known.probabilities, softmax(logits / found.temperature, axis=1), rtol=1e-5)
    assert (known.distance > 1).sum() == (unseen.distance > found.outlier_threshold).sum() > 0
    covered = known.sets[np.arange(len(targets)), targets]
    assert min(covered[targets == k].mean() for k in range(5)) >= COVERAGE
