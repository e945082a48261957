import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit
from sklearn import metrics

from fatescope.inference import composition
from fatescope.inference.uncertainty import Assessment
from pipelines.evaluation.calibration_metrics import calibration, class_weights, debiased_error, risk_coverage, trust
from pipelines.evaluation.intervals import make_units
from pipelines.evaluation.metrics import intervals, lower_bound, score, subset_metrics
from pipelines.evaluation.simulated_cultures import simulate_cultures


@pytest.fixture
def called(rng):
    """300 cells of three classes with probabilities that are right more often than not, and exactly calibrated."""
    probabilities = rng.dirichlet([0.4, 0.4, 0.4], 3000)
    targets = np.array([rng.choice(3, p=row) for row in probabilities])
    return targets, probabilities


def test_score_of_known_calls():
    targets = np.array([0, 0, 0, 1, 2])
    probabilities = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2]]
    result = score(targets, probabilities, ["a", "b", "c"])
    assert result.accuracy == pytest.approx(4 / 5)
    assert result.balanced_accuracy == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert result.confusion == [[2, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert result.auc["c"] == 1.0
    assert result.macro_f1 == pytest.approx((0.8 + 2 / 3 + 1) / 3)


def test_metrics_are_those_of_scikit_learn(called):
    targets, probabilities = called
    result, guess = score(targets, probabilities, ["a", "b", "c"]), probabilities.argmax(1)
    assert result.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(targets, guess))
    assert result.macro_f1 == pytest.approx(metrics.f1_score(targets, guess, average="macro"))
    assert result.mcc == pytest.approx(metrics.matthews_corrcoef(targets, guess))
    binary = calibration(
        (targets == 0).astype(int),
        np.stack([1 - probabilities[:, 0], probabilities[:, 0]], 1),
        10,
        np.ones(len(targets)),
    )
    assert binary.brier == pytest.approx(2 * metrics.brier_score_loss(targets == 0, probabilities[:, 0]))
    assert binary.loss == pytest.approx(metrics.log_loss(targets == 0, probabilities[:, 0]))


def test_intervals_include_the_metric_and_widen_with_groups(rng, called):
    targets, probabilities = called
    # Cells of a group are alike: its number says how many of its cells get the probabilities of another class.
    groups = rng.integers(0, 4, len(targets))
    worse = rng.random(len(targets)) < 0.2 * groups
    probabilities = np.where(worse[:, None], np.roll(probabilities, 1, axis=1), probabilities)
    narrow, wide = (
        intervals(
            targets, probabilities, make_units(units.astype(str), targets.astype(str)), ["a", "b", "c"], np.ones(3000)
        )
        for units in (np.arange(len(targets)), groups)
    )
    result = score(targets, probabilities, ["a", "b", "c"])
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "mcc"):
        assert narrow[name].low < narrow[name].value < narrow[name].high
        assert narrow[name].value == wide[name].value == pytest.approx(getattr(result, name))
        assert wide[name].high - wide[name].low > 3 * (narrow[name].high - narrow[name].low)
    assert narrow["auc.b"].value == pytest.approx(result.auc["b"])
    assert set(narrow) == set(wide) == {
        "accuracy", "balanced_accuracy", "macro_f1", "mcc", "brier", "auc.a", "auc.b", "auc.c",
    }  # fmt: skip


def test_the_lower_bound_is_that_of_groups_where_there_are_two_and_of_cells_where_all_agree():
    targets, groups = np.repeat([0, 1], 20), np.repeat(["a1", "a2", "b1", "b2"], 10)
    units = make_units(groups, targets.astype(str))
    predicted = targets.copy()
    predicted[:3] = 1
    # Accuracies of the groups are 0.7, 1, 1 and 1: a single degree of freedom, whose t is 12.7.
    assert lower_bound(targets, predicted, units, 2) < 0.5
    # Perfect on twenty cells of each class: as if one more of each were wrong, of 22.
    rate = 21 / 22
    expected = 1 - stats.t.ppf(0.975, 2) * np.sqrt(2 * rate * (1 - rate) / 20) / 2
    assert lower_bound(targets, targets, units, 2) == pytest.approx(expected)


def test_calibrated_probabilities_have_no_calibration_error(called):
    targets, probabilities = called
    assert calibration(targets, probabilities, 10, np.ones(3000)).ece < 0.03
    overconfident = probabilities**3 / (probabilities**3).sum(1, keepdims=True)
    assert calibration(targets, overconfident, 10, np.ones(3000)).ece > 0.08


def logistic(rng, cells, sharpness):
    """Return classes, and probabilities that are as sure as they should be at a `sharpness` of 1."""
    logits = rng.normal(0, 2, cells)
    said = expit(sharpness * logits)
    targets = (rng.random(cells) < expit(logits)).astype(int)
    return targets, np.stack([1 - said, said], 1), expit(abs(logits))


@pytest.mark.parametrize("sharpness", [1.0, 0.5])
def test_the_debiased_error_of_calibration_is_the_true_one_on_average(rng, sharpness):
    errors, true = [], []
    for _ in range(200):
        targets, probabilities, right = logistic(rng, 300, sharpness)
        errors.append(debiased_error(targets, probabilities, 10, np.ones(300)))
        true.append(np.mean((right - probabilities.max(1)) ** 2))
    assert np.mean(errors) == pytest.approx(np.mean(true), abs=4e-4)


@pytest.mark.parametrize(("cells", "most"), [(60, 0.07), (100, 0.05), (300, 0.02)])
def test_few_cells_do_not_accuse_a_model_that_is_calibrated(rng, cells, most):
    """Above 0.1, the plain error of these is in 78, 34 and 0 %; of a model three times too sure, 89 to 95 %."""

    def above(sharpness):
        drawn = (logistic(rng, cells, sharpness)[:2] for _ in range(300))
        return np.mean([calibration(*each, 10, np.ones(cells)).debiased > 0.1 for each in drawn])

    assert above(1.0) <= most
    assert above(3.0) > 0.6


def balanced(rng):
    targets = rng.integers(0, 2, 6000)
    return targets, noisy(rng, targets)


def test_another_mixture_is_no_miscalibration(rng):
    """Probabilities that are right for equal shares stay so where one class has nine times the cells of the other."""
    targets = (rng.random(6000) < 0.1).astype(int)
    probabilities = noisy(rng, targets)
    weights = class_weights(targets, np.array([0.5, 0.5]))
    assert weights[targets == 0].sum() == pytest.approx(3000)
    assert calibration(targets, probabilities, 10, weights).ece < 0.03
    plain, fair = (calibration(targets, probabilities, 10, w).loss for w in (np.ones(6000), weights))
    assert fair == pytest.approx(calibration(*balanced(rng), 10, np.ones(6000)).loss, rel=0.1)
    assert plain != pytest.approx(fair, rel=0.01)


def test_the_interval_of_the_brier_score_is_that_of_the_figure(rng):
    """Where the rare class is the hard one, the score under equal shares is far from that of the cells as they are."""
    targets = (np.arange(1000) < 100).astype(int)
    right = np.where(targets == 1, 0.4, 0.9) + rng.uniform(-0.1, 0.1, 1000)
    probabilities = np.stack([np.where(targets == 1, 1 - right, right), np.where(targets == 1, right, 1 - right)], 1)
    shares = class_weights(targets, np.array([0.5, 0.5]))
    units = make_units(np.arange(1000).astype(str), targets.astype(str))
    ends = intervals(targets, probabilities, units, ["a", "b"], shares)["brier"]
    assert ends.value == pytest.approx(calibration(targets, probabilities, 10, shares).brier)
    assert ends.low < ends.value < ends.high


def test_the_surest_cells_are_wrong_less_often(called):
    targets, probabilities = called
    curve = risk_coverage(targets, probabilities)
    assert len(curve) <= 200
    assert curve["coverage"].iloc[-1] == 1
    assert curve["risk"].iloc[-1] == pytest.approx((probabilities.argmax(1) != targets).mean())
    assert curve["risk"].iloc[50] < 0.6 * curve["risk"].iloc[-1]


def test_trust_counts_what_was_promised():
    judged = Assessment(
        probabilities=np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]], np.float32),
        sets=np.array([[1, 0], [1, 1], [0, 1], [1, 0]], bool),
        distance=np.array([0.5, 0.5, 1.5, 0.5], np.float32),
        verdicts=np.array(["sure", "unsure", "unlike_training", "sure"]),
    )
    found = trust(np.array([0, 1, 1, 1]), judged, ["a", "b"], {}, {})
    assert found.coverage == 0.75
    assert "calls" not in found.model_dump()
    assert found.coverage_by_class == {"a": 1.0, "b": pytest.approx(2 / 3)}
    assert (found.set_size, found.unlike, found.unsure, found.accuracy_of_sure) == (1.25, 0.25, 0.25, 0.5)


def test_every_answer_is_counted_with_how_often_it_is_right():
    sets = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1]], bool)
    judged = Assessment(
        probabilities=np.where(sets, 0.5, 0.1).astype(np.float32),
        sets=sets,
        distance=np.array([0.5] * 5 + [1.5], np.float32),
        verdicts=np.array(["sure", "unsure", "unsure", "unsure", "sure", "unlike_training"]),
    )
    targets = np.array([0, 1, 2, 1, 2, 2])
    found = trust(targets, judged, ["a", "b", "c"], {"ab": ["a", "b"]}, None).calls
    assert (found.fine.share, found.fine.accuracy) == (pytest.approx(2 / 6), 0.5)
    assert (found.coarse.share, found.coarse.accuracy) == (pytest.approx(2 / 6), 0.5)
    assert (found.unsure.share, found.unsure.accuracy) == (pytest.approx(1 / 6), None)
    assert (found.unlike.share, found.unlike.accuracy) == (pytest.approx(1 / 6), None)
    # The fourth cell is called as well, where the threshold decides.
    found = trust(targets, judged, ["a", "b", "c"], {"ab": ["a", "b"]}, {"ab": 0.55}).calls
    assert (found.coarse.share, found.coarse.accuracy) == (pytest.approx(3 / 6), pytest.approx(2 / 3))
    assert found.unsure.share == 0


def test_metrics_by_value_of_a_fact():
    subsets = subset_metrics(np.array(["1", "1", "1", "5"]), np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0]))
    assert subsets["1"].model_dump() == {"cells": 3, "accuracy": pytest.approx(2 / 3), "balanced_accuracy": 0.75}
    assert subsets["5"].accuracy == 0


def noisy(rng, targets, sharpness=2.0):
    """Exactly calibrated probabilities, for equal shares, of two overlapping normal clouds a class apart."""
    x = rng.normal(targets * sharpness, 1.0)
    ratio = np.exp(x * sharpness - sharpness**2 / 2)
    return np.stack([1 / (1 + ratio), ratio / (1 + ratio)], axis=1)


def test_composition_is_right_where_counting_is_biased(rng):
    errors, naive, inside = [], [], []
    for share in (0.0, 0.05, 0.3, 0.7, 1.0) * 12:
        targets = (rng.random(400) < share).astype(int)
        probabilities = noisy(rng, targets)
        found = composition.estimate(probabilities, np.array([0.5, 0.5]), np.zeros((2, 2)))
        truth = targets.mean()
        errors.append(abs(found.shares[1] - truth))
        naive.append(abs(probabilities.argmax(1).mean() - truth))
        inside.append(found.low[1] <= truth <= found.high[1])
        assert found.shares.sum() == pytest.approx(1)
    assert np.mean(errors) < 0.025
    assert np.mean(errors) < 0.4 * np.mean(naive)
    assert np.mean(inside) > 0.9


def test_what_more_cells_do_not_mend_widens_the_interval(rng):
    probabilities = noisy(rng, rng.integers(0, 2, 5000))
    prior, error = np.array([0.5, 0.5]), np.array([[0.01, -0.01], [-0.01, 0.01]])
    sampling = composition.estimate(probabilities, prior, np.zeros((2, 2)))
    honest = composition.estimate(probabilities, prior, error)
    assert sampling.high[0] - sampling.low[0] < 0.05
    assert honest.high[0] - honest.low[0] == pytest.approx(2 * 1.96 * 0.1, rel=0.05)


def test_simulated_cultures(rng):
    targets = rng.integers(0, 2, 2000)
    probabilities, groups = noisy(rng, targets), rng.integers(0, 5, 2000).astype(str)
    result, table = simulate_cultures(
        targets, probabilities, groups, np.array([0.5, 0.5]), np.zeros((2, 2)), 60, 300, 0
    )
    assert result.mean_error < 0.03 < result.mean_error_of_counting
    assert result.interval_coverage > 0.85
    assert len(table) == 120
    assert isinstance(table, pd.DataFrame)


def test_groups_are_looked_up_once_for_all_simulated_cultures(rng, monkeypatch):
    """Test cells may be millions, and there are hundreds of cultures."""
    targets, looked_up, unique = rng.integers(0, 2, 200), [], np.unique
    groups = rng.integers(0, 5, 200).astype(str)
    monkeypatch.setattr(
        np, "unique", lambda values, **options: looked_up.append(len(values)) or unique(values, **options)
    )
    simulate_cultures(targets, noisy(rng, targets), groups, np.array([0.5, 0.5]), np.zeros((2, 2)), 20, 10, 0)
    assert sum(looked_up) == len(targets)
