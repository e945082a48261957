"""What the thresholds of drift promise, by simulation; `fatescope bench drift` has the same with more draws."""

import numpy as np
import pandas as pd
import pytest

from monitoring import drift
from tests.support.populations import runs

REFERENCES = 3
"""Models, each with other runs: a rate is a mean over what the data may be."""
GROUPS, CELLS = 24, 80
SIZES = (50, 500, 2000)
LOOKS = 1000
HELD = 20
"""Looks at one window for which an alert has to hold: ten minutes."""


@pytest.fixture(scope="module")
def detectors():
    return [drift.Detector(runs(GROUPS, CELLS, seed)) for seed in range(REFERENCES)]


def rate(detectors, windows, size):
    """Return the share of windows that raise an alert, and its standard error; `windows(seed, size)` yields them."""
    alerts = [
        bool(detector.evaluate(window).input_drift)
        for seed, detector in enumerate(detectors)
        for window in windows(seed, size)
    ]
    share = float(np.mean(alerts))
    return share, np.sqrt(max(share * (1 - share), 0.01 * 0.99) / len(alerts))


def unseen(seed, size):
    yield from (runs(1, size, 1000 * seed + i + 100) for i in range(20))


def several(seed, size):
    yield from (runs(5, size // 5, 1000 * seed + i + 300) for i in range(20))


def like(seed, size):
    rng, cells = np.random.default_rng(seed), runs(GROUPS, CELLS, seed)
    yield from (cells.iloc[rng.choice(len(cells), size)] for _ in range(20))


def half(medium):
    def windows(seed, size):
        for i in range(10):
            known, new = (
                runs(5, size // 10, 1000 * seed + i + start, medium=far) for start, far in ((500, 0), (700, medium))
            )
            yield pd.concat([known, new], ignore_index=True)

    return windows


@pytest.mark.slow
@pytest.mark.parametrize(("windows", "bar"), [(like, 0.015), (unseen, 0.03), (several, 0.03)])
def test_like_cells_and_unseen_runs_hardly_ever_raise_an_alarm(detectors, windows, bar):
    for size in SIZES:
        share, error = rate(detectors, windows, size)
        assert share <= bar + 2 * error, size


@pytest.mark.slow
def test_half_a_window_of_a_new_medium_is_found_the_more_often_the_more_cells(detectors):
    shares, errors = zip(*(rate(detectors, half(1.2), size) for size in SIZES), strict=True)
    assert shares[1] >= 0.8, shares
    for small, large in ((0, 1), (1, 2)):
        assert shares[small] - shares[large] <= 2 * np.hypot(errors[small], errors[large]), shares


@pytest.mark.slow
def test_what_is_within_the_differences_of_runs_is_found_in_no_window_however_small(detectors):
    shares, errors = zip(*(rate(detectors, half(0.3), size) for size in SIZES), strict=True)
    assert shares[0] - shares[-1] <= 2 * np.hypot(errors[0], errors[-1]), shares


@pytest.mark.slow
def test_a_thousand_looks_at_like_cells_hardly_ever_raise_an_alert(detectors):
    # Windows that are replaced whole and then stay just as long as an alert has to hold: the most that a rule can see.
    windows = LOOKS // HELD
    alerts = []
    for seed, detector in enumerate(detectors):
        rng, cells = np.random.default_rng(seed), runs(GROUPS, CELLS, seed)
        for _ in range(3):
            looks = (detector.evaluate(cells.iloc[rng.choice(len(cells), 500)]) for _ in range(windows))
            alerts.append(any(report.input_drift for report in looks))
    assert np.mean(alerts) <= 0.05, alerts


@pytest.mark.slow
@pytest.mark.parametrize("groups", [4, 6])
def test_a_reference_of_few_groups_knows_that_it_knows_little_of_runs(groups):
    detectors = [drift.Detector(runs(groups, CELLS, seed + 400)) for seed in range(8)]
    shares = []
    for seed, detector in enumerate(detectors):
        shares.append(np.mean([bool(detector.evaluate(window).input_drift) for window in unseen(seed, 500)]))
    # By reference, because some know groups that are more alike than most. It was 0.15 with four.
    assert np.mean(shares) <= 0.03 + 2 * np.std(shares, ddof=1) / np.sqrt(len(shares)), shares


def test_groups_of_a_few_cells_tell_how_runs_differ():
    detector = drift.Detector(runs(60, 25, 0))
    alarms = [bool(detector.evaluate(runs(1, 500, 100 + seed)).input_drift) for seed in range(20)]
    assert sum(alarms) <= 2


def test_the_threshold_of_a_feature_that_no_run_changes_is_that_of_chance_in_the_window(detectors):
    distances = [detectors[0].thresholds(size, concentration=0.0)["ks_width"] for size in (30, 100, 500, 2000)]
    assert distances == sorted(distances, reverse=True)
    # Two samples of 500 and 1,920 cells, all statistics together in 99 of 100; 0.29 came from windows of 41.
    assert 0.07 <= distances[2] <= 0.13


def test_a_window_of_one_run_may_differ_by_more_than_one_of_many(detectors):
    one, many = (detectors[0].thresholds(500, concentration) for concentration in (1.0, 0.0))
    assert one["ks_background"] > 2 * many["ks_background"]
    assert one["ks_width"] < 1.7 * many["ks_width"]
    assert all(one[name] >= many[name] for name in one)
