"""No cell changes its side, nor is one with several images on two of them, and every class is on each."""

import numpy as np
import pandas as pd
import pytest

from fatescope.data.splits import SPLITS
from fatescope.data.tracks import Tracks
from fatescope.errors import SplitError
from pipelines.splitting.at_random import draw_sides, draw_tracks
from tests.support.splitting import hashes, shares


def assign_at_random(labels, pixels, settings):
    """Return the split of each cell, whose pixels have these hashes, under the random scheme."""
    names, codes = np.unique(labels, return_inverse=True)
    return np.array(SPLITS, object)[draw_sides(codes, names.tolist(), lambda: iter([pixels]), settings)]


@pytest.mark.parametrize("share", [0.01, 0.67, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_a_rare_class_is_in_every_split_whatever_the_shares(make_params, share, seed):
    labels = np.array(["common"] * 60 + ["rare"] * 3)
    settings = make_params({"split.test_share": share, "split.validation_share": share, "split.seed": seed}).split
    random = assign_at_random(labels, hashes(63), settings)
    assert pd.crosstab(labels, random).loc["rare"].to_dict() == {"test": 1, "train": 1, "validation": 1}


def test_the_random_split_has_its_shares_of_each_class(params):
    labels = np.repeat(["a", "o"], 20_000)
    found = shares(labels, assign_at_random(labels, hashes(40_000), params.split))
    np.testing.assert_allclose(found["test"], 0.25, atol=0.012)  # four standard errors
    np.testing.assert_allclose(found["validation"], 0.1875, atol=0.011)


def test_a_cell_keeps_its_random_split_and_equal_pixels_are_on_one_side(params):
    labels, pixels = np.repeat(["a", "o"], 600), hashes(1200)
    pixels[600:700] = pixels[:100]
    first = assign_at_random(labels, pixels, params.split)
    assert (first[600:700] == first[:100]).all()
    order = np.random.default_rng(1).permutation(1200)
    more = assign_at_random(
        np.append(labels[order], ["a"] * 500), np.append(pixels[order], hashes(500, 1)), params.split
    )
    assert (more[:1200] == first[order]).all()


def test_a_seed_decides_what_is_drawn(make_params):
    labels = np.repeat(["a", "o"], 180)
    first, second, third = (make_params({"split.seed": seed}).split for seed in (0, 0, 1))
    random = [assign_at_random(labels, hashes(len(labels)), settings) for settings in (first, second, third)]
    np.testing.assert_array_equal(random[0], random[1])
    assert (random[0] != random[2]).mean() > 0.2


def test_two_cells_cannot_be_split(params):
    with pytest.raises(SplitError, match=r"too few cells to split: \{'a': 2, 'o': 2\}"):
        assign_at_random(np.array(["a", "a", "o", "o"]), hashes(4), params.split)


def test_no_cell_with_several_images_is_on_two_sides_of_the_random_scheme(make_params):
    keys = np.repeat(hashes(200), 4)
    codes = np.repeat(np.arange(200) % 3, 4).astype(np.int8)
    # Of the last class there are three cells: their sides are not left to chance.
    codes[codes == 2] = np.where(np.arange((codes == 2).sum()) < 12, 2, -1)
    mixed = np.random.default_rng(0).permutation(len(keys))
    of_cells = Tracks(keys[mixed], np.zeros(len(keys)))
    sides = draw_tracks(codes[mixed], ["a", "b", "c"], of_cells, make_params().split)
    together = pd.Series(sides).groupby(of_cells.keys).nunique()
    assert together.max() == 1
    assert (sides[codes[mixed] < 0] == -1).all()
    counts = pd.crosstab(codes[mixed], sides).loc[[0, 1, 2], [0, 1, 2]]
    assert (counts.loc[2] == 4).all()
    assert (counts.loc[[0, 1], 2] / counts.loc[[0, 1]].sum(axis=1)).between(0.15, 0.35).all()


def test_a_cell_with_several_images_keeps_its_side_when_more_are_added(make_params):
    keys, settings = hashes(300), make_params().split
    codes = (np.arange(300) % 2).astype(np.int8)
    before = draw_tracks(codes, ["a", "b"], Tracks(keys, np.zeros(300)), settings)
    later = draw_tracks(np.tile(codes, 3), ["a", "b"], Tracks(np.tile(keys, 3), np.zeros(900)), settings)
    np.testing.assert_array_equal(later, np.tile(before, 3))


def test_images_of_one_cell_of_two_classes_are_refused(make_params):
    of_cells = Tracks(np.array([1, 1, 2, 3, 4, 5, 6]), np.zeros(7))
    codes = np.array([0, 1, 0, 0, 0, 1, 1], np.int8)
    with pytest.raises(SplitError, match="images of one cell are of a and b; dataset"):
        draw_tracks(codes, ["a", "b"], of_cells, make_params().split)
