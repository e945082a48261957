import numpy as np
import pytest
import torch

from fatescope.config.names import BRIGHTFIELD, DARKFIELD
from fatescope.data.crops import center
from pipelines.training import instrument_augmentation as instrument
from pipelines.training.instrument_augmentation import STRENGTHS
from tests.support.images import draw_cell


@pytest.fixture
def cells(rng):
    """Crops of 40x50 px on a canvas."""
    torch.manual_seed(0)
    crops = [center(draw_cell(rng, 40, 50), (60, 80), "cell") for _ in range(32)]
    return torch.from_numpy(np.stack(crops).astype(np.float32))[:, None]


MILD, STRONG = STRENGTHS["randomise"], STRENGTHS["randomise_strongly"]


def test_half_of_the_cells_are_taken_by_another_instrument(cells):
    changed = (instrument.randomise(cells, (BRIGHTFIELD,), MILD) != cells).flatten(1).any(1)
    assert changed.sum() == 16
    assert changed[:16].any()
    assert changed[16:].any()


def test_padding_stays_as_a_canvas_has_it(cells):
    taken = instrument.change_instrument(cells, (BRIGHTFIELD,), STRONG)
    corner = taken[:, 0, :3, :3].flatten(1)
    assert torch.equal(corner.amin(1), corner.amax(1))
    # What is inside has noise of each cell's own strength.
    spread = taken[:, 0, 20:40, 22:24].flatten(1).std(1)
    assert spread.min() > 0
    assert spread.max() > 3 * spread.min()
    assert taken.min() >= 0


def test_cells_grow_and_shrink_around_the_middle():
    disc = torch.zeros(64, 1, 41, 41)
    disc[:, :, 11:30, 11:30] = 100
    scaled = instrument.change_pixel_size(disc, STRONG)
    area = scaled.sum((1, 2, 3)) / disc.sum((1, 2, 3))
    assert 1 / 1.25**2 - 0.02 < area.min() < 0.8
    assert 1.25 < area.max() < 1.25**2 + 0.02
    torch.testing.assert_close(scaled, scaled.flip(2, 3), atol=1e-3, rtol=0)


def test_mild_changes_leave_a_cell_its_size_and_its_detail(cells):
    """Both tell classes apart: changes that make them uncertain cost accuracy on like cells."""
    disc = torch.zeros(64, 1, 41, 41)
    disc[:, :, 11:30, 11:30] = 100
    area = instrument.change_pixel_size(disc, MILD).sum((1, 2, 3)) / disc.sum((1, 2, 3))
    assert 0.92 < area.min() < 0.98
    assert 1.02 < area.max() < 1.08
    deviation = cells - cells.median()
    detail = instrument.change_focus(deviation, MILD).diff(dim=3).std((1, 2, 3)) / deviation.diff(dim=3).std((1, 2, 3))
    assert detail.min() > 0.75
    assert detail.max() < 1.1


def test_focus_takes_detail_and_adds_it(cells):
    deviation = cells - cells.median()
    detail = instrument.change_focus(deviation, STRONG).diff(dim=3).std((1, 2, 3)) / deviation.diff(dim=3).std(
        (1, 2, 3)
    )
    assert detail.min() < 0.8
    assert detail.max() > 1.1


def test_a_laser_is_no_lamp():
    pixels = torch.full((16, 2, 20, 20), 100.0)
    pixels[:, :, 8:12, 8:12] = 300
    lit = instrument.change_illumination(
        pixels - 100, torch.full((16, 2, 1, 1), 100.0), torch.ones(16, 1, 20, 20), (BRIGHTFIELD, DARKFIELD)
    )
    brightfield, darkfield = lit[:, 0], lit[:, 1]
    assert (brightfield[:, 0, 0] / brightfield[:, 0, 19] - 1).abs().max() > 0.02
    assert torch.equal(darkfield[:, 0, 0], torch.full((16,), 100.0)), "the background is that of the camera"
    assert darkfield[:, 10, 10].std() > 10
    assert torch.corrcoef(lit[:, :, 10, 10].T)[0, 1].abs() < 0.9, "lamp and laser change independently"
