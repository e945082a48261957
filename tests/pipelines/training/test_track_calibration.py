import numpy as np
import pytest
from scipy.special import softmax

from fatescope.data.tracks import Tracks
from fatescope.inference.track_evidence import TrackEvidence
from pipelines.evaluation import track_metrics
from pipelines.training.track_calibration import fit_evidence

PRIOR = np.full(2, 0.5)
INDEPENDENT = TrackEvidence(correlation=0.0, scale=1.0, frames=8, tracks=1)


def draw(persistent, seed, cells=4000, frames=8):
    """Return calibrated probabilities of images, whose error has a variance share that is that of the cell."""
    rng = np.random.default_rng(seed)
    targets = np.repeat(rng.integers(2, size=cells), frames)
    keys, times = np.repeat(np.arange(cells), frames), np.tile(np.arange(frames), cells)
    own = np.repeat(rng.standard_normal(cells), frames)
    error = np.sqrt(persistent) * own + np.sqrt(1 - persistent) * rng.standard_normal(len(own))
    # Of two normal distributions at -1 and 1 the logarithm of the likelihood ratio is twice the value.
    llr = 2 * (2 * targets - 1 + error)
    mixed = rng.permutation(len(targets))
    probabilities = softmax(np.stack([-llr / 2, llr / 2], axis=1), axis=1)
    return probabilities[mixed], targets[mixed], Tracks(keys[mixed], times[mixed].astype(float))


def fit(persistent, seed=0):
    probabilities, targets, tracks = draw(persistent, seed)
    return fit_evidence(probabilities, np.ones(len(targets), bool), targets, tracks, PRIOR)


def errors(persistent, how, seed=1):
    """Return the calibration error of other cells after each number of images."""
    probabilities, targets, tracks = draw(persistent, seed)
    followed = track_metrics.follow(probabilities, np.ones(len(targets), bool), targets, tracks, PRIOR, how)
    return [row.calibration.ece for row in track_metrics.measure(followed, PRIOR, how, 0.9, 10).frames]


@pytest.mark.parametrize("persistent", [0.0, 0.3, 0.7])
def test_the_correlation_of_errors_is_found_and_calibrates_other_cells(persistent):
    how = fit(persistent)
    assert how.correlation == pytest.approx(persistent, abs=0.06)
    assert how.scale == pytest.approx(1, abs=0.1)
    assert (how.frames, how.tracks) == (8, 4000)
    assert max(errors(persistent, how)) < 0.03


def test_without_the_discount_answers_would_be_too_sure():
    assert errors(0.7, INDEPENDENT)[-1] > 3 * errors(0.7, fit(0.7))[-1]


def test_few_cells_with_several_images_fit_nothing():
    probabilities, targets, tracks = draw(0.3, 0, cells=19)
    assert fit_evidence(probabilities, np.ones(len(targets), bool), targets, tracks, PRIOR) is None
    single = Tracks(np.arange(len(targets)), tracks.times)
    assert fit_evidence(probabilities, np.ones(len(targets), bool), targets, single, PRIOR) is None


def test_settling_is_counted_from_the_first_image():
    after = np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.95, 0.05], [0.2, 0.8], [0.3, 0.7]])
    followed = track_metrics.Followed(np.array([0, 4]), np.zeros(6, int), after, np.ones(6, bool), after)
    since, sure = track_metrics.settle(followed, 0.75)
    assert (since.tolist(), sure.tolist()) == ([3, 1], [4, 0])
