"""What the benchmark of calibration measures is what it says."""

import numpy as np
import pytest

from benchmarks.calibration import error_of_runs
from pipelines.evaluation.calibration_metrics import debiased_error


@pytest.mark.parametrize("overconfidence", [0, 0.1])
def test_the_error_of_runs_is_that_of_all_runs_there_may_be(overconfidence):
    rng, of_runs, of_cells = np.random.default_rng(0), [], []
    for _ in range(500):
        groups, confidence = np.repeat(np.arange(6), 80), rng.uniform(0.6, 0.9, 480)
        apart = rng.normal(0, 0.05, 6)[groups]
        right = rng.random(480) < np.clip(confidence - overconfidence + apart, 0, 1)
        told = np.where(right, 0, 1), np.stack([confidence, 1 - confidence], axis=1)
        of_runs.append(error_of_runs(*told, groups.astype(str), np.ones(480)))
        of_cells.append(debiased_error(*told, 10, np.ones(480)))
    error = np.std(of_runs) / len(of_runs) ** 0.5
    assert np.mean(of_runs) == pytest.approx(overconfidence**2, abs=3 * error)
    # Six runs that differ by 0.05 add the variance of their mean.
    assert np.mean(of_cells) - np.mean(of_runs) == pytest.approx(0.05**2 / 6, rel=0.3)
