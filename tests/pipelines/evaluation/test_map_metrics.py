"""A classifier that looks at one spot alone, asked with maps that show the spot, and with others."""

import numpy as np
import pytest

from pipelines.evaluation import intervals, map_metrics

CELLS, CANVAS, SIZE = 24, (48, 64), (40, 56)
FITS = [{"backbone": "compact", "input_size": [48, 64], "resize": "pad"}]


def cells(rng):
    """Return pixels with a bright spot on each cell, in one of the positions of a 6x8 map, and these positions."""
    pixels = rng.integers(990, 1010, (CELLS, *CANVAS)).astype(np.uint16)
    places = np.stack([rng.integers(1, 5, CELLS), rng.integers(1, 7, CELLS)], axis=1)
    for cell, (row, column) in zip(pixels, places, strict=True):
        cell[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 800
    return pixels, places


def classify(pixels):
    bright = np.clip((pixels > 1500).mean((-2, -1)).reshape(len(pixels), -1).mean(1) * 48, 0, 1)
    return np.stack([1 - bright, bright], axis=1)


def try_maps(maps, pixels):
    sizes, predicted = np.full((CELLS, 2), SIZE), np.ones(CELLS, np.int64)
    measured = map_metrics.areas(classify, pixels, sizes, maps.astype(np.float32), predicted, FITS, 0)
    groups, targets = np.arange(CELLS) % 8, np.arange(CELLS) % 2
    units = intervals.choose_units(np.char.add(targets.astype(str), groups.astype(str)), targets.astype(str))
    return measured, map_metrics.summarise(measured, maps.shape[1:], targets, units)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_map_of_what_decides_is_better_than_chance_and_another_is_not(rng, channels):
    pixels, places = cells(rng)
    right = np.zeros((CELLS, 6, 8))
    right[np.arange(CELLS), places[:, 0], places[:, 1]] = 1.0
    shown = pixels if channels == 1 else np.stack([pixels] * channels, axis=1)
    measured, summary = try_maps(right, shown)
    assert measured.deletion.max() < 0.25, "the spot is a 48th of the canvas"
    assert measured.insertion.min() > 0.75
    assert (summary.cells, summary.positions) == (CELLS, (6, 8))
    assert summary.intervals["deletion"][0] > 0
    assert summary.intervals["insertion"][0] > 0
    assert summary.conclusion().startswith("Both are better than chance")
    _, wrong = try_maps(-right, shown)
    assert wrong.gain["deletion"] < 0
    assert wrong.conclusion().startswith("That is not better than chance")


def test_a_flat_map_is_chance_and_few_groups_give_no_interval(rng):
    pixels, _ = cells(rng)
    measured, summary = try_maps(np.zeros((CELLS, 6, 8)), pixels)
    assert abs(summary.gain["deletion"]) < 0.1
    targets = np.arange(CELLS) % 2
    units = intervals.choose_units(targets.astype(str), targets.astype(str))
    summary = map_metrics.summarise(measured, (6, 8), targets, units)
    assert set(summary.intervals.values()) == {None}
    assert summary.conclusion().startswith("Too few acquisition groups")
