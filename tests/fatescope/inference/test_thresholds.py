import numpy as np
import pytest

from fatescope.inference.thresholds import conformal, upper_quantile


def test_conformal_sets_keep_their_promise_in_each_class(rng):
    def probabilities(count):
        targets = rng.integers(0, 2, count)
        logit = 2 * rng.normal(targets * 2.0, 1.0) - 2
        return 1 / (1 + np.exp(-np.stack([-logit, logit], axis=1))), targets

    thresholds = conformal(*probabilities(2000), 0.9)
    unseen, targets = probabilities(20_000)
    for k in range(2):
        assert (unseen[targets == k, k] >= thresholds[k]).mean() == pytest.approx(0.9, abs=0.02)


def test_too_few_cells_promise_nothing():
    assert conformal(np.array([[0.9, 0.1]] * 5), np.zeros(5, int), 0.9) == [0.0, 0.0]


def test_one_like_cell_in_a_hundred_is_called_unlike(rng):
    threshold = upper_quantile(rng.normal(size=5000), 0.99)
    assert (rng.normal(size=50_000) > threshold).mean() == pytest.approx(0.01, abs=0.004)
