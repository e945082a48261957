"""Descriptions of the instrument: each moves with what it is named after."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipelines.evaluation import instrument

SHAPE = (60, 80)


def draw(rng, *, level=700.0, noise=0.0, blur=1.0, radius=10):
    """Return a dark disc with fine grains, under a lens with this blur, and white noise."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    disc = (np.hypot(y - 30, x - 40) < radius) * (1 + 0.5 * np.random.default_rng(1).standard_normal(SHAPE))
    return level - 150 * gaussian_filter(disc, blur) + noise * rng.standard_normal(SHAPE)


def test_noise_has_the_power_of_the_noise_in_each_octave(rng):
    weak, strong = (np.mean([instrument.describe(draw(rng, noise=n))["noise"] for _ in range(30)], 0) for n in (8, 16))
    assert strong - weak == pytest.approx(np.full(3, 2 * np.log(2)), abs=0.2)
    # White noise has less power in each wider octave.
    assert (np.diff(weak) < -0.5).all()


def test_noise_does_not_see_the_cell(rng):
    seed = int(rng.integers(1000))
    small, large = (instrument.describe(draw(np.random.default_rng(seed), noise=5, radius=r))["noise"] for r in (8, 11))
    assert small == pytest.approx(large, abs=0.25)


def test_gain_is_the_variance_over_the_level(rng):
    """Shot noise of twice the lamp has twice the variance, and the same gain; twice the gain shows."""

    def gain(level, per_count):
        drawn = [draw(rng, level=level, noise=np.sqrt(per_count * level)) for _ in range(30)]
        return np.mean([instrument.describe(one)["gain"] for one in drawn])

    assert gain(1400, 0.03) == pytest.approx(gain(700, 0.03), abs=0.2)
    assert gain(700, 0.06) - gain(700, 0.03) == pytest.approx(np.log(2), abs=0.2)


def test_focus_is_steeper_the_more_the_lens_blurs(rng):
    steepness = [instrument.describe(draw(rng, blur=blur))["focus"].sum() for blur in (0.6, 0.9, 1.2)]
    assert np.diff(steepness).max() < -1


def test_focus_does_not_change_with_lamp_and_contrast(rng):
    seen = draw(rng, blur=0.8)
    assert instrument.describe(seen)["focus"] == pytest.approx(instrument.describe(0.01 * seen + 3)["focus"], abs=1e-3)


def test_a_wider_halo_is_darker_at_a_distance_from_the_edge(rng):
    near, far = (instrument.describe(draw(rng, blur=blur))["halo"] for blur in (0.6, 2.0))
    assert far[2] < near[2] - 0.03
    assert near[-1] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("crop", [np.full((8, 8), 5.0), np.zeros((60, 80)), np.eye(200)])
def test_any_crop_has_finite_descriptions(crop):
    described = instrument.describe(crop)
    assert tuple(described) == instrument.DESCRIPTIONS
    assert all(np.isfinite(vector).all() for vector in described.values())
