import numpy as np
import pytest

from fatescope.inference import cam


def test_the_map_lies_where_the_network_looked():
    # Canvas 60x80 padded to 45x60: three quarters. Position 1 of a ResNet looks at px 32 of the input.
    fit = {"backbone": "resnet18", "input_size": [45, 60], "resize": "pad"}
    left, right, bottom, top = cam.extent((40, 50), (60, 80), [fit], (2, 2))
    middle_of_second = left + 0.75 * (right - left)
    assert middle_of_second == pytest.approx((50 - 1) / 2 + (32 - 29.5) / 0.75)
    assert (top + bottom) / 2 == pytest.approx((40 - 1) / 2 + (16 - 22) / 0.75)


def test_a_mean_of_turned_maps_lies_evenly_on_the_crop():
    fit = {"backbone": "resnet18", "input_size": [60, 60], "resize": "stretch", "views": "symmetries"}
    left, right, bottom, top = cam.extent((40, 50), (40, 40), [fit], (2, 2))
    assert (left + right) / 2 == pytest.approx((50 - 1) / 2)
    assert (top + bottom) / 2 == pytest.approx((40 - 1) / 2)
    assert right - left == pytest.approx(2 * 32 * 40 / 60)


def test_a_picture_of_the_map_has_the_size_of_the_crop_and_its_strongest_place_where_it_belongs():
    fit = {"backbone": "compact", "input_size": [64, 64], "resize": "stretch"}
    said = np.zeros((8, 8), np.float32)
    said[2, 5] = 1.0
    said[6, 1] = -0.5
    picture = np.asarray(cam.overlay(said, (60, 50), (64, 64), [fit]))
    assert picture.shape == (60, 50, 4)
    y, x = np.unravel_index(picture[..., 3].argmax(), (60, 50))
    assert (y, x) == pytest.approx((3.5 + 8 * 2 - 2, 3.5 + 8 * 5 - 7), abs=1.5)
    assert picture[y, x, 0] > picture[y, x, 2], "red speaks for the class"
    y, x = 3 + 8 * 6 - 2, 3 + 8 * 1 - 7
    assert picture[y, x, 2] > picture[y, x, 0], "blue speaks against it"
    assert picture[0, 0, 3] == 0
