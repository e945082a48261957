import numpy as np
import pytest
from scipy.special import softmax

from fatescope.inference import composition
from fatescope.inference.ood import MahalanobisDetector
from fatescope.inference.thresholds import upper_quantile
from pipelines.evaluation.simulated_cultures import simulate_cultures
from pipelines.training import calibration
from pipelines.training.cross_fit import Unseen

EQUAL = np.array([0.5, 0.5])


def logits_of(rng, count, sharpness=1.0):
    """Logits (n, 2) of which `sharpness` 1 is calibrated, and the classes of the cells."""
    targets = rng.integers(0, 2, count)
    x = rng.normal(targets * 2.0, 1.0)
    return sharpness * np.stack([np.zeros(count), x * 2 - 2], axis=1), targets


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_overconfidence(rng, sharpness):
    logits, targets = logits_of(rng, 4000, sharpness)
    assert calibration.temperature(logits, targets, EQUAL) == pytest.approx(sharpness, rel=0.1)


def rare(rng, count=40_000):
    """Logits that are calibrated for nine cells of the first class in ten, and cells of that mixture."""
    targets = (rng.random(count) < 0.1).astype(int)
    x = rng.normal(targets * 2.0, 1.0)
    return np.stack([np.zeros(count), x * 2 - 2 + np.log(1 / 9)], axis=1), targets


def test_the_temperature_is_that_of_the_mixture_that_the_network_expects(rng):
    """A network fitted on nine cells of a class in ten is right to expect so, and needs no other temperature."""
    logits, targets = rare(rng)
    assert calibration.temperature(3 * logits, targets, np.array([0.9, 0.1])) == pytest.approx(3, rel=0.05)
    assert calibration.temperature(3 * logits, targets, EQUAL) > 4


def test_what_a_network_expects_does_not_decide_between_candidates(rng):
    """The same knowledge of the cells is worth the same, whatever mixture its probabilities are for."""
    logits, targets = rare(rng)
    prior = np.array([0.9, 0.1])
    told, worse = logits - np.log(prior), 0.5 * logits
    assert calibration.balanced_loss(logits, targets, prior) == pytest.approx(
        calibration.balanced_loss(told, targets, EQUAL), rel=1e-9
    )
    assert calibration.balanced_loss(logits, targets, prior) < calibration.balanced_loss(logits, targets, EQUAL)
    assert calibration.balanced_loss(logits, targets, prior) < calibration.balanced_loss(worse, targets, prior)


def test_cells_that_are_far_away_or_off_the_plane_are_unlike(rng):
    basis = np.linalg.qr(rng.normal(size=(40, 3)))[0]

    def cloud(targets):
        flat = rng.normal(size=(len(targets), 3)) + 4 * np.eye(3)[targets]
        return (flat @ basis.T + 0.05 * rng.normal(size=(len(targets), 40))).astype(np.float32)

    targets = rng.integers(0, 2, 1500)
    known = MahalanobisDetector.fit(cloud(targets), targets, directions=8)
    threshold = upper_quantile(known.score(cloud(rng.integers(0, 2, 1500))), 0.99)
    assert (known.score(cloud(rng.integers(0, 2, 3000))) > threshold).mean() < 0.03
    third = cloud(np.full(500, 2)) + 3 * basis[:, 2].astype(np.float32)
    assert (known.score(third) > threshold).mean() > 0.9
    off_plane = cloud(rng.integers(0, 2, 500)) + rng.normal(size=(500, 40)).astype(np.float32)
    assert (known.score(off_plane) > threshold).mean() > 0.99


def test_outliers_round_trip(rng, tmp_path):
    known = MahalanobisDetector.fit(rng.normal(size=(50, 10)).astype(np.float32), np.arange(50) % 2, directions=64)
    known.save(tmp_path / "o.safetensors")
    again = MahalanobisDetector.load(tmp_path / "o.safetensors")
    unseen = rng.normal(size=(5, 10)).astype(np.float32)
    np.testing.assert_array_equal(again.score(unseen), known.score(unseen))


def test_runs_that_differ_make_compositions_less_certain(rng):
    def error(shift):
        logits, targets = logits_of(rng, 2000)
        groups = rng.integers(0, 6, 2000)
        moved = logits + np.stack([np.zeros(2000), shift * (groups - 2.5)], axis=1)
        probabilities = 1 / (1 + np.exp(-np.stack([-moved[:, 1], moved[:, 1]], axis=1)))
        return composition.learn_error(probabilities, targets, groups.astype(str), np.array([0.5, 0.5]), 0)

    alike, different = error(0.0), error(1.0)
    assert different[0, 0] > 4 * alike[0, 0]
    assert np.linalg.eigvalsh(different).min() > -1e-12


@pytest.mark.slow
def test_the_interval_holds_for_cultures_of_one_run_each(rng):
    """As runs differ, so do cultures: what was learned of six runs is to hold for cultures of ten others."""
    covered = []
    for seed in range(8):
        logits, targets = logits_of(rng, 4000)
        runs = rng.integers(0, 16, 4000)
        shifts = rng.normal(0, 0.7, 16)[runs]
        probabilities = softmax(logits + np.stack([np.zeros(4000), shifts], axis=1), axis=1)
        known = runs < 6
        error = composition.learn_error(probabilities[known], targets[known], runs[known].astype(str), EQUAL, 0)
        others = targets[~known], probabilities[~known], runs[~known].astype(str)
        covered.append(simulate_cultures(*others, EQUAL, error, 200, 300, seed)[0].interval_coverage)
    assert 0.9 < np.mean(covered) < 0.99


def test_calibrate_puts_it_together(rng, make_params):
    logits, targets = logits_of(rng, 800, 3.0)
    unseen = Unseen(np.arange(800), logits.astype(np.float32), rng.normal(1, 0.1, 800).astype(np.float32))
    groups = np.array([f"g{i % 7}" for i in range(800)])
    found = calibration.calibrate(unseen, targets, groups, np.array([0.5, 0.5]), make_params().calibrate)
    assert found.temperature == pytest.approx(3, rel=0.2)
    assert found.balanced_accuracy == pytest.approx(0.84, abs=0.05)
    assert 0 < found.loss < 0.5
    assert all(0 < each < 0.5 for each in found.conformal)
    assert (unseen.distance > found.outlier_threshold).mean() == pytest.approx(0.01, abs=0.002)
