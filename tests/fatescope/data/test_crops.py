import numpy as np
import pytest

from fatescope.data.crops import background, border, center
from fatescope.errors import ImageError
from tests.support.images import draw_cell


def test_center_pads_with_the_background(rng):
    pixels = draw_cell(rng, 41, 51, level=900)
    placed = center(pixels, (60, 80), "x")
    assert placed.shape == (60, 80)
    np.testing.assert_array_equal(placed[9:50, 14:65], pixels)
    assert abs(int(placed[0, 0]) - 900) <= 2
    assert (placed[:9] == placed[0, 0]).all()


def test_center_refuses_to_cut():
    with pytest.raises(ImageError, match=r"61x20 px do not fit the canvas of 60x80 px .* ingest\.canvas") as caught:
        center(np.zeros((61, 20), np.uint16), (60, 80), "x")
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("shape", [(45, 60), (8, 9), (3, 20, 31)])
def test_background_is_the_median_of_the_border(rng, shape):
    pixels = rng.integers(0, 65536, shape).astype(np.uint16)
    np.testing.assert_array_equal(background(pixels), np.median(border(pixels), axis=-1))


def test_border_is_the_frame():
    pixels = np.zeros((10, 12), np.uint16)
    pixels[2:-2, 2:-2] = 1
    frame = border(pixels)
    assert frame.shape == (10 * 12 - 6 * 8,)
    assert not frame.any()
