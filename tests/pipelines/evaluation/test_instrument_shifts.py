import numpy as np
import pandas as pd
import pytest

from fatescope.data.crops import border, center
from fatescope.data.dataset import CellDataset
from pipelines.evaluation.instrument_shifts import LAMP, PIXEL, SHIFTS, shift_cells, shift_crop
from tests.support.images import draw_cell


@pytest.fixture
def cells(rng):
    crops = [draw_cell(rng, 40, 50) for _ in range(6)]
    table = pd.DataFrame({"cell_id": [f"cell {i}" for i in range(6)], "height": 40, "width": 50})
    return CellDataset(table, np.stack([center(crop, (60, 80), "cell") for crop in crops]))


@pytest.mark.parametrize("name", SHIFTS)
def test_what_is_shifted_does_not_depend_on_the_other_cells(cells, name):
    rows = np.arange(6)
    shifted = shift_cells(cells, rows, name, 0)
    assert shifted.shape == (6, 60, 80)
    assert (shifted != cells.pixels).any((1, 2)).all()
    assert np.array_equal(shifted[3:5], shift_cells(cells, rows[3:5], name, 0))


@pytest.mark.parametrize("name", SHIFTS)
def test_each_channel_is_shifted(rng, name):
    crop = np.stack([draw_cell(rng, 40, 50), draw_cell(rng, 40, 50) // 2])
    shifted = shift_crop(crop, name, rng)
    assert shifted.shape[0] == 2
    assert all(level in shifted.shape for level in ((32, 40) if name == "pixel size" else (40, 50)))
    assert np.median(shifted[0]) > 1.8 * np.median(shifted[1])


def test_shifts_are_what_they_say(rng):
    crop = np.full((40, 50), 1000, np.uint16)
    crop[15:25, 20:30] = 3000
    taken = {name: shift_crop(crop, name, rng).astype(float) for name in SHIFTS}
    assert np.abs(np.diff(taken["focus"])).max() < 0.5 * 2000
    bright, dark = (slice(16, 24), slice(21, 29)), (slice(0, 10), slice(0, 50))
    assert taken["noise"][bright].std() == pytest.approx(taken["noise"][dark].std(), rel=0.3)
    assert taken["gain"][bright].std() == pytest.approx(3**0.5 * taken["gain"][dark].std(), rel=0.3)
    assert np.median(border(taken["illumination"])) == pytest.approx(LAMP * 1000, rel=0.02)
    assert np.ptp(taken["illumination"][:3]) + np.ptp(taken["illumination"][:, :3]) > 50
    assert (taken["pixel size"] > 2000).sum() == pytest.approx(100 / PIXEL**2, rel=0.2)


def test_black_backgrounds_have_a_brightness(rng):
    crop = np.zeros((40, 50), np.uint16)
    crop[10:30, 10:40] = 150
    assert 1 < shift_crop(crop, "gain", rng)[12:28, 12:38].std() < 6
