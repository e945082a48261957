import numpy as np
import pytest

from fatescope.data.features import ACQUISITION
from monitoring import drift
from monitoring.thresholds import ALPHA
from tests.support.populations import GROUPS, population

CLASSES = ("p_a", "p_b")


@pytest.fixture(scope="module")
def detector():
    return drift.Detector(population(800, 0))


@pytest.mark.parametrize("size", [60, 300])
@pytest.mark.slow
def test_windows_of_like_cells_hardly_ever_raise_an_alarm(detector, size):
    like = population(200 * size, 1)
    alarms = [bool(detector.evaluate(like.iloc[i * size : (i + 1) * size]).input_drift) for i in range(200)]
    # Four times in a thousand windows would be ALPHA itself plus three standard errors for 200.
    assert np.mean(alarms) <= ALPHA + 3 * np.sqrt(ALPHA / 200)


def test_windows_of_one_lamp_that_the_model_knows_raise_none(detector):
    like = population(20_000, 2)
    alarms = [bool(detector.evaluate(rows.head(200)).input_drift) for _, rows in like.groupby("group")]
    assert sum(alarms) == 0


@pytest.mark.parametrize(
    ("changes", "statistics"),
    [
        ({"background": 1.5}, {"ks_background", "outside_background"}),
        ({"focus": 0.5}, {"ks_focus", "outside_focus"}),
        ({"e0": 2.0, "e3": -2.0}, {"mmd"}),
    ],
)
def test_a_change_is_found_and_named(detector, changes, statistics):
    found = {finding.statistic for finding in detector.evaluate(population(200, 3, **changes)).input_drift}
    assert statistics <= found
    touched = {name for name in changes if name in ACQUISITION}
    assert {finding.split("_", 1)[1] for finding in found if finding.startswith("ks_")} == touched


def test_more_unlike_cells_and_another_mixture(detector):
    window = population(200, 4)
    window.loc[window.index[:60], "verdict"] = "unlike_training"
    assert {finding.statistic for finding in detector.evaluate(window).input_drift} == {"unlike"}
    mixed = population(200, 5).assign(p_a=0.9, p_b=0.1)
    report = detector.evaluate(mixed)
    assert report.input_drift == [], "another culture is no fault of the input"
    assert next(finding for finding in report.findings if finding.statistic == "classes").drifted


@pytest.mark.slow
def test_a_large_window_raises_no_alarm_over_a_small_difference(detector):
    assert detector.evaluate(population(20_000, 6, background=1.005)).input_drift == []


def test_a_report_is_json(detector):
    report = detector.evaluate(population(100, 7, background=2.0)).as_dict()
    assert report["cells"] == 100
    assert "outside_background" in report["drifted"]
    assert {"statistic", "value", "threshold", "drifted"} == set(report["findings"][0])


def test_one_cell_of_another_size_is_no_drift_and_a_tenth_of_them_is():
    same = population(800, 0).assign(height=45, width=60)
    detector, window = drift.Detector(same), population(200, 1).assign(height=45, width=60)
    window.loc[0, "height"] = 50
    assert not detector.evaluate(window).input_drift
    window.loc[:19, "height"] = 50
    assert "ks_height" in {finding.statistic for finding in detector.evaluate(window).input_drift}


def test_a_changed_mixture_alone_moves_no_embedding():
    def drifted(table):
        return {finding.statistic for finding in detector.evaluate(table.head(300)).findings if finding.drifted}

    # As of a network: the classes lie apart.
    known, others = (
        table.assign(e0=table["e0"] + 4 * table["p_a"].round()) for table in map(population, (800, 2000), (0, 1))
    )
    detector = drift.Detector(known)
    one = others[others["p_a"] > 0.5]
    assert "classes" in drifted(one)
    assert "mmd" not in drifted(one)
    assert "mmd" in drifted(others.assign(e1=others["e1"] + 2 * others["p_a"].round())), "cells of one class are others"


def test_a_mixture_is_found_where_each_group_is_of_one_class():
    known = population(800, 0)
    of_group = known["group"].str[1:].astype(int) % 2
    known = known.assign(p_a=np.where(of_group, 0.9, 0.1), p_b=np.where(of_group, 0.1, 0.9))
    detector = drift.Detector(known)
    report = detector.evaluate(known[known["p_a"] > 0.5].head(200))
    assert "classes" in {finding.statistic for finding in report.findings if finding.drifted}
    assert not report.input_drift


@pytest.mark.slow
def test_a_medium_that_the_model_is_sure_of_is_found_by_its_embedding_alone():
    def grown(count, seed):
        table = population(count, seed)
        # Groups differ along one direction of the embedding, by more than the new medium does along another.
        return table.assign(e0=table["e0"] + 0.3 * (table["group"].str[1:].astype(int) - GROUPS / 2))

    detector = drift.Detector(grown(1600, 0).assign(seen=np.arange(1600) < 1200))
    others = grown(4000, 1)
    for name, rows in others.groupby("group"):
        assert not detector.evaluate(rows.head(200)).input_drift, name
    report = detector.evaluate(others.assign(e1=others["e1"] + 0.8).head(200))
    assert {finding.statistic for finding in report.input_drift} == {"novelty"}


def test_the_rates_are_those_of_cells_that_the_model_was_not_fitted_on():
    known = population(800, 0).assign(seen=np.arange(800) < 600)
    # It is sure of all that it was fitted on.
    known.loc[known["seen"], "verdict"] = "sure"
    assert not drift.Detector(known).evaluate(population(300, 1)).input_drift


def test_groups_that_were_fitted_on_in_part_hide_no_rate():
    """As under the random scheme; of what is fitted on and what is not, either may come first in a group."""
    known = population(1600, 0).assign(seen=np.arange(1600) < 1200)
    known.loc[known["seen"], "verdict"] = "sure"
    limits = [drift.Detector(order).thresholds(400)["unsure"] for order in (known, known.iloc[::-1])]
    assert limits == pytest.approx([0.13, 0.13], abs=0.03), "0.19 where the first cell of a group stood for all"


def test_a_lamp_far_beyond_all_others_is_found_where_cells_of_a_run_are_alike():
    def steady(count, seed, beyond=0.0):
        table, rng = population(count, seed), np.random.default_rng(seed)
        return table.assign(
            background=700 + 5 * table["group"].str[1:].astype(int) + beyond + rng.normal(0, 0.5, count)
        )

    detector = drift.Detector(steady(800, 0))
    last = steady(2000, 1)["group"] == f"g{GROUPS - 1}"
    assert not detector.evaluate(steady(2000, 1, beyond=3)[last]).input_drift, "another run may lie there"
    report = detector.evaluate(steady(2000, 1, beyond=600)[last])
    assert "outside_background" in {finding.statistic for finding in report.input_drift}
