import numpy as np
import pytest

from fatescope.inference import cam


def test_the_map_is_registered_with_the_crop():
    # A canvas of 60x80 is scaled to three quarters, 45x60. The receptive field of position 1 is centred on px 32.
    fit = {"backbone": "resnet18", "input_size": [45, 60], "resize": "pad"}
    left, right, bottom, top = cam.extent((40, 50), (60, 80), [fit], (2, 2))
    centre_of_second = left + 0.75 * (right - left)
    assert centre_of_second == pytest.approx((50 - 1) / 2 + (32 - 29.5) / 0.75)
    assert (top + bottom) / 2 == pytest.approx((40 - 1) / 2 + (16 - 22) / 0.75)


def test_a_small_stem_has_positions_every_eight_pixels_and_bundles_of_before_have_the_standard_one():
    before = {"backbone": "resnet18", "input_size": [60, 60], "resize": "stretch"}
    fits = {name: before | {"stem": name} for name in ("standard", "small")}
    assert cam.extent((60, 60), (60, 60), [before], (2, 2)) == (-16, 48, 48, -16)
    assert cam.extent((60, 60), (60, 60), [fits["standard"]], (2, 2)) == (-16, 48, 48, -16)
    assert cam.extent((60, 60), (60, 60), [fits["small"]], (8, 8)) == (-4, 60, 60, -4)
    assert cam.finest([before, fits["small"]]) == fits["small"]


def test_a_mean_over_symmetries_is_centred_on_the_crop():
    fit = {"backbone": "resnet18", "input_size": [60, 60], "resize": "stretch", "views": "symmetries"}
    left, right, bottom, top = cam.extent((40, 50), (40, 40), [fit], (2, 2))
    assert (left + right) / 2 == pytest.approx((50 - 1) / 2)
    assert (top + bottom) / 2 == pytest.approx((40 - 1) / 2)
    assert right - left == pytest.approx(2 * 32 * 40 / 60)


def test_the_overlay_has_the_size_of_the_crop_and_its_maximum_where_the_map_has_it():
    fit = {"backbone": "compact", "input_size": [64, 64], "resize": "stretch"}
    activation = np.zeros((8, 8), np.float32)
    activation[2, 5] = 1.0
    activation[6, 1] = -0.5
    image = np.asarray(cam.overlay(activation, (60, 50), (64, 64), [fit]))
    assert image.shape == (60, 50, 4)
    y, x = np.unravel_index(image[..., 3].argmax(), (60, 50))
    assert (y, x) == pytest.approx((3.5 + 8 * 2 - 2, 3.5 + 8 * 5 - 7), abs=1.5)
    assert image[y, x, 0] > image[y, x, 2], "red is evidence for the class"
    y, x = 3 + 8 * 6 - 2, 3 + 8 * 1 - 7
    assert image[y, x, 2] > image[y, x, 0], "blue is evidence against it"
    assert image[0, 0, 3] == 0


def test_the_contributions_of_all_positions_add_up_to_what_the_map_adds_to_the_logit():
    activation = np.array([[4.0, -8.0], [2.0, 0.0]], np.float32)
    scale, total = cam.contributions(activation)
    assert scale == 2.0, "the strongest of the four, of which the mean is taken"
    assert total == pytest.approx(1.0 - 2.0 + 0.5 + 0.0)
    assert cam.contributions(np.zeros((2, 2), np.float32)) == (0.0, 0.0)
