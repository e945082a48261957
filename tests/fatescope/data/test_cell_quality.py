"""Features of the quality of a cell: each has the value that follows from what is drawn."""

import numpy as np
import pytest
from scipy import ndimage

from fatescope.data.cell_quality import QUALITY, measure

DEPTH = 12


def ellipse(rng, height=61, width=81, axes=(12.0, 12.0), at=(0.0, 0.0), level=700, contrast=200):
    """Draw a textured ellipse with these semi-axes (down, right), px, on a noisy background."""
    y, x = np.mgrid[:height, :width].astype(float)
    inside = ((y - height // 2 - at[0]) / axes[0]) ** 2 + ((x - width // 2 - at[1]) / axes[1]) ** 2 <= 1
    texture = np.where((y + x) % 4 < 2, 1.0, -0.5)
    return level + contrast * inside * texture + 3 * rng.standard_normal((height, width))


def features(*images, depth=DEPTH):
    crops = [np.clip(np.rint(image), 0, 2**depth - 1).astype(np.uint16) for image in images]
    table = measure(crops, [depth] * len(crops))
    return [dict(zip(QUALITY, map(float, row), strict=True)) for row in table]


def test_area_and_aspect_ratio_are_those_of_the_ellipse(rng):
    [circle, long] = features(ellipse(rng), ellipse(rng, axes=(9, 18)))
    # The mask reaches about a pixel beyond the object.
    assert circle["area"] == pytest.approx(np.pi * 12.8**2, rel=0.06)
    assert circle["aspect_ratio"] == pytest.approx(1, abs=0.05)
    assert long["area"] == pytest.approx(np.pi * 9.8 * 18.8, rel=0.06)
    assert long["aspect_ratio"] == pytest.approx(0.52, abs=0.05)
    assert circle["border_contact"] == long["border_contact"] == 0


def test_a_thin_process_changes_neither_area_nor_aspect_ratio(rng):
    with_process = ellipse(rng)
    with_process[29:32, 50:75] += 200
    plain, other = features(ellipse(rng), with_process)
    assert other["area"] == pytest.approx(plain["area"], rel=0.05)
    assert other["aspect_ratio"] == pytest.approx(plain["aspect_ratio"], abs=0.06)


def test_two_cells_are_twice_the_area_whether_they_touch_or_not(rng):
    one = features(ellipse(rng, axes=(10, 10)))[0]
    for gap in (20, 24):
        both = ellipse(rng, axes=(10, 10), at=(0, -gap / 2)) + ellipse(rng, axes=(10, 10), at=(0, gap / 2)) - 700
        [found] = features(both)
        assert found["area"] == pytest.approx(2 * one["area"], rel=0.1)
        assert found["aspect_ratio"] < 0.6


def test_a_fragment_beside_the_cell_does_not_count(rng):
    beside = ellipse(rng) + ellipse(rng, axes=(3, 3), at=(0, 30)) - 700
    plain, other = features(ellipse(rng), beside)
    assert other["area"] == pytest.approx(plain["area"], rel=0.05)


def test_gradient_rms_falls_with_blur_and_not_with_contrast_or_lamp(rng):
    sharp = ellipse(rng)
    values = [found["gradient_rms"] for found in features(*(ndimage.gaussian_filter(sharp, s) for s in (0, 1, 2, 3)))]
    assert values == sorted(values, reverse=True)
    assert values[2] < 0.7 * values[0]
    [usual, faint, bright] = features(sharp, ellipse(rng, contrast=100), ellipse(rng, level=1400, contrast=400))
    assert faint["gradient_rms"] == pytest.approx(usual["gradient_rms"], rel=0.06)
    assert bright["gradient_rms"] == pytest.approx(usual["gradient_rms"], rel=0.06)


def test_the_share_of_the_outline_on_the_border_is_that_of_the_cut(rng):
    # Half a disc: its outline is half a circle and a diameter.
    [cut] = features(ellipse(rng, at=(-30, 0)))
    assert cut["border_contact"] == pytest.approx(24 / (24 + np.pi * 12), abs=0.08)


def test_saturation_is_the_share_of_pixels_at_the_top_of_the_depth(rng):
    image = ellipse(rng)
    image[:6, :10] = 4095
    [found] = features(image)
    assert found["saturation"] == pytest.approx(60 / image.size)
    assert features(ellipse(rng, level=200, contrast=40), depth=8)[0]["saturation"] == 0


def test_an_empty_image_has_no_object(rng):
    flat, noise = features(np.full((40, 50), 700.0), 700 + 3 * rng.standard_normal((40, 50)))
    assert flat == dict.fromkeys(QUALITY, 0.0)
    assert noise["area"] < 30


def test_a_cell_has_its_features_whatever_is_measured_with_it(rng):
    crops = [ellipse(rng, int(rng.integers(30, 70)), int(rng.integers(30, 70)), (9, 9)) for _ in range(70)]
    crops = [np.rint(crop).astype(np.uint16) for crop in crops]
    together = measure(crops, [DEPTH] * 70)
    alone = np.concatenate([measure([crop], [DEPTH]) for crop in crops])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_8_bit_and_16_bit_pixels_of_equal_values_have_equal_features(rng):
    crop = np.clip(np.rint(ellipse(rng, level=120, contrast=60)), 0, 255)
    narrow, wide = measure([crop.astype(np.uint8), crop.astype(np.uint16)], [8, 8])
    np.testing.assert_array_equal(narrow, wide)


def test_no_cells_have_no_features():
    assert measure([], []).shape == (0, len(QUALITY))
