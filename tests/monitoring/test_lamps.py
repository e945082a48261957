import numpy as np
import pytest

from monitoring.lamps import Lamps
from monitoring.statistics import FEATURES
from tests.support.populations import runs


def features(table):
    return table[list(FEATURES)].to_numpy(float)


@pytest.fixture(scope="module")
def lamps():
    reference = runs(24, 80, 0)
    return Lamps.of(features(reference), list(reference.groupby("group").indices.values()))


def concentration(lamps, table):
    return float(lamps.concentration(lamps.embed(features(table)).mean(0), len(table)))


@pytest.mark.parametrize(("count", "low", "high"), [(1, 0.85, 1.0), (2, 0.25, 0.75), (8, 0.05, 0.25), (24, 0.0, 0.1)])
def test_cells_of_few_runs_are_imaged_alike_and_of_many_are_not(lamps, count, low, high):
    found = [concentration(lamps, runs(count, 480 // count, seed)) for seed in range(20, 40)]
    assert low <= np.median(found) <= high, found


def test_the_number_of_cells_does_not_matter(lamps):
    small, large = ([concentration(lamps, runs(8, size, seed)) for seed in range(20, 50)] for size in (6, 240))
    assert abs(np.mean(small) - np.mean(large)) < 0.06


def test_where_runs_are_imaged_alike_any_window_may_be_one_run():
    rng = np.random.default_rng(0)
    same = rng.normal(1, 0.1, (800, len(FEATURES)))
    lamps = Lamps.of(same, list(np.arange(800).reshape(8, 100)))
    assert not lamps.tell
    assert float(lamps.concentration(lamps.embed(same).mean(0), 800)) == 1.0
