"""Bets that may be looked at endlessly: how often they cry wolf, and how soon they see a difference."""

import numpy as np
import pytest

from fatescope.inference.bets import STAKES, Bets, confidence_sequence

LOOKS, RUNS = 1_000, 1_000


def most_wealth(values):
    """Return the largest wealth in each row of (n, looks) values, as `Bets().add` does."""
    return np.exp(np.cumsum(np.log1p(STAKES[:, None, None] * values), axis=2)).mean(0).max(1)


def test_the_simulation_bets_as_the_class_does():
    values = np.random.default_rng(1).uniform(-1, 1, (3, 40))
    assert most_wealth(values) == pytest.approx([Bets().add(row) for row in values])


@pytest.mark.parametrize("kind", ["discordant pairs", "few discordant pairs", "means of groups"])
def test_verdicts_are_rarely_wrong_over_a_thousand_looks(kind):
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (RUNS, LOOKS))
    if kind == "few discordant pairs":
        signs *= rng.random((RUNS, LOOKS)) < 0.1
    elif kind == "means of groups":
        signs *= rng.beta(0.5, 0.5, (RUNS, LOOKS))
    wrong = (most_wealth(signs) >= 40) | (most_wealth(-signs) >= 40)
    # Both verdicts together promise 5 %.
    assert 0 < wrong.mean() <= 0.05


def test_a_better_version_is_found():
    rng = np.random.default_rng(0)
    # Right where the other is wrong in 12 % of cells, and wrong where it is right in 4 %.
    values = rng.choice([-1.0, 0.0, 1.0], (200, 500), p=[0.04, 0.84, 0.12])
    assert (most_wealth(values) >= 40).mean() > 0.95
    assert (most_wealth(-values) >= 40).mean() == 0


def test_a_margin_is_left_before_anything_is_said():
    rng = np.random.default_rng(0)
    alike = rng.choice([0.0, 1.0], 500, p=[0.92, 0.08])
    assert Bets(0.1).add(alike) < 100
    assert Bets(0.1).add(rng.choice([0.0, 1.0], 500, p=[0.7, 0.3])) >= 100


def test_confidence_sequences_cover_the_mean_at_all_looks_together():
    rng, covered = np.random.default_rng(0), []
    for _ in range(60):
        values = rng.choice([-1.0, 0.0, 1.0], 150, p=[0.05, 0.75, 0.2])
        low, high = confidence_sequence(values, 0.05)
        covered.append(low <= 0.15 <= high)
        assert -1 <= low < values.mean() < high <= 1
    # The ends after 150 values are those of all looks before.
    assert np.mean(covered) >= 0.95
