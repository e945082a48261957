import numpy as np
import pytest

from fatescope.data import features
from tests.support.images import draw_cell


def named(names, row):
    return dict(zip(names, row, strict=True))


def test_acquisition_features_of_a_known_image():
    pixels = np.full((1, 20, 30), 100, np.uint16)
    pixels[0, 5:15, 10:20] = 4095
    values = named(features.ACQUISITION, features.acquisition(pixels, 12)[0])
    assert values["background"] == 100
    assert values["background_spread"] == 0
    assert values["mean"] == pytest.approx(pixels.mean())
    assert values["spread"] == pytest.approx(pixels.std())
    assert (values["darkest"], values["brightest"]) == (100, 4095)
    assert values["saturation"] == pytest.approx(100 / 600)


def test_a_deep_bright_image_does_not_overflow():
    pixels = np.full((1, 60, 80), 65535, np.uint16)
    values = named(features.ACQUISITION, features.acquisition(pixels, 16)[0])
    assert values["mean"] == 65535
    assert values["spread"] == 0
    assert values["saturation"] == 1


def test_blur_lowers_focus(rng):
    sharp = rng.integers(0, 4000, (1, 40, 40)).astype(np.uint16)
    blurred = sharp[:, 1:, 1:] // 4 + sharp[:, :-1, 1:] // 4 + sharp[:, 1:, :-1] // 4 + sharp[:, :-1, :-1] // 4
    column = features.ACQUISITION.index("focus")
    assert features.acquisition(blurred, 12)[0, column] < 0.5 * features.acquisition(sharp, 12)[0, column]


def test_cell_features_ignore_illumination_and_gain(rng):
    cells = np.stack([draw_cell(rng, 60, 80, radius=r) for r in (6, 10, 14)]).astype(np.float64)
    changed = 300 + 2 * cells
    np.testing.assert_allclose(
        features.cell(changed.astype(np.uint16)), features.cell(cells.astype(np.uint16)), rtol=0.02, atol=0.02
    )


def test_cell_features_measure_area_and_elongation(rng):
    small, large = features.cell(np.stack([draw_cell(rng, 60, 80, radius=r) for r in (6, 14)]))
    assert named(features.CELL, large)["area"] > 2 * named(features.CELL, small)["area"]
    y, x = np.mgrid[:60, :80]
    ellipse = np.where(((y - 30) / 8) ** 2 + ((x - 40) / 24) ** 2 < 1, 300, 700).astype(np.uint16)
    assert named(features.CELL, features.cell(ellipse[None])[0])["elongation"] == pytest.approx(3, rel=0.05)


def test_a_blank_image_has_finite_features():
    assert np.isfinite(features.cell(np.full((2, 60, 80), 500, np.uint16))).all()
