"""Connected parts of masks: those that SciPy finds."""

import numpy as np
import pytest
from scipy import ndimage

from fatescope.data.components import find_components

SIDES = np.zeros((3, 3, 3), bool)
SIDES[1] = ndimage.generate_binary_structure(2, 1)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.55, 0.6, 0.9])
def test_components_are_those_of_scipy_in_its_order(rng, share):
    masks = rng.random((9, 23, 17)) < share
    labels, count = ndimage.label(masks, SIDES)
    found = find_components(masks)
    np.testing.assert_array_equal(found.paint(np.arange(1, count + 1)), labels)
    np.testing.assert_array_equal(found.sizes, np.bincount(labels.ravel())[1:])
    first = [np.flatnonzero((labels == i + 1).any((1, 2)))[0] for i in range(count)]
    assert found.of_image.tolist() == first


def test_a_spiral_is_one_part_and_parts_that_touch_at_a_corner_are_two():
    spiral = np.array([list(row) for row in ("#####", "....#", "###.#", "#...#", "#####")]) == "#"
    corner = np.zeros((5, 5), bool)
    corner[1, 1] = corner[2, 2] = True
    found = find_components(np.stack([spiral, corner]))
    assert found.sizes.tolist() == [spiral.sum(), 1, 1]
    assert found.of_image.tolist() == [0, 1, 1]


@pytest.mark.parametrize("fill", [False, True])
def test_images_without_a_part_or_without_a_gap_are_no_special_case(fill):
    masks = np.full((3, 4, 5), fill)
    found = find_components(masks)
    assert found.sizes.tolist() == ([20] * 3 if fill else [])
    np.testing.assert_array_equal(found.paint(np.ones(len(found.sizes), bool)), masks)
