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
