import numpy as np
import pytest

from monitoring.novelty import Novelty, describe

CLASSES, COMPONENTS = 2, 4
SPREAD = 0.2
"""Standard deviation of runs, of which the cells have 1."""


def cells(count, size, rng, *, share=0.5, far=0.0, wide=1.0):
    """Return the (count * size, …) descriptions and predicted classes of cells of `count` runs; classes lie apart."""
    second = rng.random(count * size) < share
    runs = np.repeat(SPREAD * rng.normal(size=(count, COMPONENTS)), size, axis=0)
    components = wide * rng.normal(size=(count * size, COMPONENTS)) + runs
    components[:, 0] += 4 * second
    components[:, 1] += far
    # One cell in ten is mistaken for the other class.
    predicted = second ^ (rng.random(count * size) < 0.1)
    return describe(components), np.eye(CLASSES)[predicted.astype(int)]


def learn(groups, size, seed, *, pure=False):
    rng = np.random.default_rng(seed)
    parts = [cells(1, size, rng, share=i % 2 if pure else 0.5) for i in range(groups)]
    described, predicted = (np.concatenate(each) for each in zip(*parts, strict=True))
    rows = list(np.arange(groups * size).reshape(groups, size))
    return Novelty.of(described, predicted, rows, np.zeros(groups * size, bool))


def distance(novelty, window, runs):
    described, predicted = window
    return novelty.distance(described.mean(0), predicted.mean(0), len(described), 1 / runs)


def distances(novelty, runs, size, *, count=60, **changes):
    rng = np.random.default_rng(1)
    return np.array([distance(novelty, cells(runs, size // runs, rng, **changes), runs) for _ in range(count)])


@pytest.mark.parametrize("runs", [1, 10])
@pytest.mark.parametrize("size", [50, 2000])
def test_windows_of_like_cells_are_at_about_one_whatever_their_size_and_runs(runs, size):
    found = [np.mean(distances(learn(24, 80, seed), runs, size) ** 2) for seed in range(4)]
    assert 0.5 < np.mean(found) < 1.2


@pytest.mark.parametrize("groups", [4, 8, 24])
def test_few_runs_that_are_in_no_data_lie_beyond_the_limit(groups):
    models = [learn(groups, 80, seed) for seed in range(20)]
    for runs, size in ((1, 50), (1, 2000), (10, 500)):
        share = np.mean([distances(each, runs, size, count=30) > each.limit(size, 1 / runs, 0.01) for each in models])
        assert share <= 0.03, (runs, size)


@pytest.mark.parametrize("change", [{"far": 0.7}, {"wide": 1.3}])
def test_cells_that_lie_elsewhere_or_scatter_more_are_found_where_there_are_enough_of_them(change):
    novelty = learn(24, 80, 0)
    limit = {size: novelty.limit(size, 0.1, 0.01) for size in (50, 500, 2000)}
    shares = [np.mean(distances(novelty, 10, size, **change) > limit[size]) for size in limit]
    assert shares == sorted(shares)
    assert shares[-1] >= 0.9


@pytest.mark.parametrize("pure", [True, False], ids=["of groups of one class", "of mixed groups"])
def test_another_mixture_is_nothing_new(pure):
    novelty = learn(24, 80, 0, pure=pure)
    found = distances(novelty, 10, 500, share=1.0)
    assert np.mean(found > novelty.limit(500, 0.1, 0.01)) <= 0.02


def test_what_the_model_was_fitted_on_may_lie_elsewhere():
    rng, size = np.random.default_rng(0), 80
    described, predicted = cells(24, size, rng)
    seen = np.arange(24 * size) < 16 * size
    described[seen] += 1
    novelty = Novelty.of(described, predicted, list(np.arange(24 * size).reshape(24, size)), seen)
    limit = novelty.limit(500, 0.1, 0.01)
    assert np.mean(distances(novelty, 10, 500) > limit) <= 0.02
    assert np.mean(distances(novelty, 10, 500, far=1.0) > limit) == 1


def test_a_component_that_all_cells_have_says_nothing():
    rng = np.random.default_rng(0)
    described, predicted = cells(8, 80, rng)
    described[:, [0, COMPONENTS]] = 0.1
    novelty = Novelty.of(described, predicted, list(np.arange(640).reshape(8, 80)), np.zeros(640, bool))
    window, classes = cells(10, 50, rng)
    window[:, [0, COMPONENTS]] = np.float32(0.1)
    assert distance(novelty, (window, classes), 10) < novelty.limit(500, 0.1, 0.01)
