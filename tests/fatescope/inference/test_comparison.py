"""Differences between cultures: what holds by construction, and coverage and error by simulation."""

import numpy as np
import pytest
from scipy import stats

from fatescope.inference import comparison, mean_composition
from fatescope.inference.comparison import Sample, compare

NO_ERROR = np.zeros((2, 2))
ERROR = np.array([[1, -1], [-1, 1]]) * 0.05**2
CHANCE = 1e-5


def cultures(condition, shares, **roles):
    """Return samples of two classes; each of `roles` is a list."""
    return [
        Sample(f"{condition}{i}", condition, np.array([share, 1 - share]), np.full(2, CHANCE),
               **{name: values[i] for name, values in roles.items()})
        for i, share in enumerate(shares)
    ]  # fmt: skip


def test_three_against_three_is_the_t_test_where_the_classifier_makes_no_error():
    first, second = [0.51, 0.55, 0.62], [0.38, 0.45, 0.49]
    [estimate, other] = compare(cultures("a", first), cultures("b", second), NO_ERROR)
    expected = stats.ttest_ind(first, second)
    ends = expected.confidence_interval()
    # All shares are near a half, where the scatter of both sides is alike.
    assert estimate.difference == pytest.approx(0.12)
    assert estimate.p_value == pytest.approx(expected.pvalue, rel=0.02)
    assert (estimate.low, estimate.high) == pytest.approx((ends.low, ends.high), rel=0.02)
    assert estimate.replicates == (3, 3)
    assert (other.low, other.high) == pytest.approx((-estimate.high, -estimate.low))


def test_the_error_of_the_classifier_doubts_how_large_a_difference_is_and_not_that_there_is_one():
    sides = cultures("a", [0.70, 0.73, 0.76]), cultures("b", [0.40, 0.43, 0.46])
    without, with_error = (compare(*sides, error)[0] for error in (NO_ERROR, ERROR))
    assert with_error.p_value == pytest.approx(without.p_value)
    assert with_error.high - with_error.low > 1.1 * (without.high - without.low)
    # It stretches a difference: the longer side is away from zero.
    assert with_error.high - with_error.difference > with_error.difference - with_error.low
    # Where there is no difference there is nothing to stretch.
    alike = cultures("a", [0.70, 0.73, 0.76]), cultures("b", [0.70, 0.73, 0.76])
    without, with_error = (compare(*alike, error)[0] for error in (NO_ERROR, ERROR))
    assert with_error.high == pytest.approx(without.high, rel=0.05)


@pytest.mark.parametrize("error", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("gap", [0.02, 0.06, 0.1, 0.3])
def test_zero_is_outside_the_interval_just_where_the_p_value_is_below_five_per_cent(gap, error):
    matrix = np.array([[1, -1], [-1, 1]]) * error**2
    estimate = compare(cultures("a", np.array([0.4, 0.44, 0.48]) + gap), cultures("b", [0.4, 0.44, 0.48]), matrix)[0]
    assert estimate.differs is (estimate.p_value < 0.05)
    assert -1 <= estimate.low <= estimate.difference <= estimate.high <= 1


@pytest.mark.parametrize("shares", [[1.2], [1.2, 1.22, 1.24]], ids=["one", "three"])
@pytest.mark.parametrize("error", [0.0, 0.05, 1.5])
def test_no_difference_is_larger_than_all_cells(shares, error):
    """Shares are estimated without cutting off what lies beyond 0 and 1."""
    matrix = np.array([[1, -1], [-1, 1]]) * error**2
    more, less = compare(cultures("a", shares), cultures("b", [-0.1, -0.09, -0.08][: len(shares)]), matrix)
    assert (more.difference, less.difference) == (1, -1)
    if len(shares) > 1:
        assert 0 < more.low <= more.difference == more.high
        assert less.low == less.difference <= less.high < 0


def test_the_difference_of_other_classes_leaks_into_a_class_without_one():
    error = np.full((3, 3), -0.5) * 0.1**2 + np.eye(3) * 1.5 * 0.1**2

    def make(name, a):
        return [
            Sample(f"{name}{i}", name, np.array([0.2 + s, a, 0.8 - a - s]), np.full(3, CHANCE))
            for i, s in enumerate((-0.02, 0, 0.02))
        ]

    leaking, alike = (compare(make("a", a), make("b", 0.1), error)[0] for a in (0.6, 0.1))
    assert leaking.difference == pytest.approx(0)
    assert leaking.high > 2 * alike.high


def test_a_single_replicate_has_neither_interval_nor_p_value_however_many_cells_it_has():
    for counts in ((1, 3), (3, 1), (1, 1)):
        first, second = (cultures(name, [0.4, 0.5, 0.6][:n]) for name, n in zip("ab", counts, strict=True))
        estimate = compare(first, second, ERROR)[0]
        assert (estimate.low, estimate.high, estimate.p_value) == (None, None, None)
        assert estimate.replicates == counts
        assert not estimate.differs


def test_samples_of_one_replicate_are_one_culture():
    shares = [0.50, 0.52, 0.48, 0.60, 0.61, 0.59]
    names = ["1", "1", "1", "2", "2", "2"]
    estimate = compare(cultures("a", shares, replicate=names), cultures("b", shares, replicate=names), NO_ERROR)[0]
    assert estimate.replicates == (2, 2)
    single = compare(cultures("a", shares[:3], replicate=names[:3]), cultures("b", shares, replicate=names), NO_ERROR)
    assert single[0].p_value is None


def test_donors_on_both_sides_are_compared_with_themselves():
    base, donors = np.array([0.2, 0.5, 0.8]), ["x", "y", "z"]
    first, second = base + np.array([0.09, 0.10, 0.11]), base
    paired = compare(cultures("a", first, donor=donors), cultures("b", second, donor=donors), NO_ERROR)[0]
    apart = compare(cultures("a", first), cultures("b", second), NO_ERROR)[0]
    assert (paired.pairs, apart.pairs) == (3, None)
    assert paired.p_value == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=0.05)
    assert paired.p_value < 0.01
    assert apart.p_value > 0.5
    # Their order does not matter, nor a donor who is on one side alone.
    shuffled = compare(
        cultures("a", [*first[::-1], 0.99], donor=[*donors[::-1], "w"]), cultures("b", second, donor=donors), NO_ERROR
    )[0]
    assert shuffled == paired


def test_several_cultures_of_a_donor_are_one_unit_unless_there_is_one_donor():
    many = cultures("a", [0.5, 0.5, 0.6, 0.6], donor=["x", "x", "y", "y"])
    others = cultures("b", [0.4, 0.4, 0.5, 0.5], donor=["v", "v", "w", "w"])
    assert compare(many, others, NO_ERROR)[0].replicates == (2, 2)
    one = cultures("b", [0.4, 0.4, 0.5, 0.5], donor=["x"] * 4)
    assert compare(one, one, NO_ERROR)[0].replicates == (4, 4)


def test_replicates_that_agree_by_chance_are_no_proof():
    """Three cultures in which a rare class was not found have no scatter at all."""
    none, few = cultures("a", [0.0, 0.0, 0.0]), cultures("b", [0.0, 0.0, 0.0])
    for side, share in ((none, 0.0), (few, 0.01)):
        side[:] = [Sample(s.name, s.condition, np.array([share, 1 - share]), np.full(2, 0.01**2)) for s in side]
    estimate = compare(few, none, NO_ERROR)[0]
    assert estimate.p_value > 0.1


def classifier(rng):
    """Return what is learned of a classifier that is right in 84 % of cells, and how to draw a culture's mean."""

    def mean(share, cells):
        is_first = rng.random(cells) < share
        places = np.where(is_first, 1, -1) + rng.normal(0, 1, cells)
        probability = 1 / (1 + np.exp(-2 * places))
        return np.array([probability, 1 - probability]), places > 0

    known = np.concatenate([mean(share, 1000)[0].T for share in (0, 1)])
    return mean_composition.learn(known, np.full(2, 0.5)), mean


def test_shares_come_from_mean_probabilities_also_of_pure_cultures():
    learned, draw = classifier(np.random.default_rng(0))
    for share in (0.0, 0.1, 0.5, 1.0):
        mean = draw(share, 40_000)[0].mean(1)
        assert learned.shares(mean)[0] == pytest.approx(share, abs=0.03)
        assert learned.solve(mean)[0] == pytest.approx(share, abs=0.03)
        assert learned.solve(mean).sum() == pytest.approx(1)
    found = [learned.solve(draw(0.3, 400)[0].mean(1))[0] for _ in range(300)]
    assert learned.chance(np.array([0.3, 0.7]), 400)[0] == pytest.approx(np.var(found), rel=0.35)


def test_what_is_cut_off_at_zero_would_bias_the_mean_of_cultures():
    learned, draw = classifier(np.random.default_rng(0))
    kept, exact, solved = [], [], []
    for _ in range(400):
        mean = draw(0.0, 200)[0].mean(1)
        kept.append(learned.shares(mean))
        solved.append(learned.solve(mean))
        exact.append(learned.uncut(kept[-1], mean, learned.chance(kept[-1], 200)))
    unbiased = np.mean(solved, axis=0)[0]
    assert np.mean(kept, axis=0)[0] > unbiased + 0.006
    assert np.mean(exact, axis=0)[0] == pytest.approx(unbiased, abs=0.003)
    assert np.sum(exact, axis=1) == pytest.approx(np.ones(400))
    # Nothing is cut off a share inside.
    inside, mean = np.array([0.9, 0.1]), np.array([1.0, 0.0])
    assert learned.uncut(inside, mean, np.full(2, 0.02**2)) == pytest.approx(inside)


def test_a_model_that_cannot_tell_classes_apart_says_nothing_of_shares():
    learned = mean_composition.learn(np.full((50, 3), 1 / 3), np.full(3, 1 / 3))
    assert learned.shares(np.array([0.4, 0.3, 0.3])) == pytest.approx([1 / 3] * 3)
    assert np.isfinite(learned.chance(np.full(3, 1 / 3), 100)).all()


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.08, 0.0), (0.6, 0.4)], ids=["alike", "rare", "different"])
def test_intervals_hold_and_nothing_is_found_where_nothing_is(shares):
    rng = np.random.default_rng(3)
    learned, draw = classifier(rng)
    held = found = 0
    draws = 300
    for _ in range(draws):
        sides = []
        for name, share in zip("ab", shares, strict=True):
            truth = np.clip(rng.normal(share, 0.04 * bool(share), 3), 0, 1)
            means = [draw(value, 200)[0].mean(1) for value in truth]
            side = []
            for i, mean in enumerate(means):
                inside = learned.shares(mean)
                chance = learned.chance(inside, 200)
                side.append(Sample(f"{name}{i}", name, learned.uncut(inside, mean, chance), chance))
            sides.append(side)
        estimate = comparison.compare(*sides, NO_ERROR)[0]
        held += estimate.low <= shares[0] - shares[1] <= estimate.high
        found += estimate.differs
    noise = 2 * np.sqrt(0.05 * 0.95 / draws)
    assert held / draws >= 0.93 - noise / 2
    if shares[0] == shares[1]:
        assert found / draws <= 0.05 + noise
