import torch

from pipelines.pretraining import views

QUIET = {"pretrain.scale": 0.0, "pretrain.shift": 0, "pretrain.focus": 0.0, "pretrain.noise": 0.0}


def cell(count):
    """A bright bar, off centre, on background."""
    images = torch.zeros(count, 1, 24, 24)
    images[:, :, 9:12, 6:14] = 1
    return images


def test_a_view_changes_only_as_far_as_the_settings_say(make_params):
    still = make_params(QUIET | {"pretrain.intensity": 0.0}).pretrain
    seen = views.random_view(cell(200), still, stretched=True)
    # A stretched image is mirrored, not turned.
    assert len({tuple(image.flatten().round(decimals=3).tolist()) for image in seen}) == 4
    turned = views.random_view(cell(200), still, stretched=False)
    assert len({tuple(image.flatten().round(decimals=3).tolist()) for image in turned}) > 100


def test_magnification_and_shift_keep_background_and_reach_their_limits():
    torch.manual_seed(0)
    moved = views.move(cell(400), scale=0.5, shift=3, turned=False)
    areas = moved.sum((1, 2, 3)) / 24
    assert 1 / 1.5**2 - 0.1 < areas.min() < 0.55
    assert 2.0 < areas.max() < 1.5**2 + 0.1
    places = (moved[:, 0].sum(1) * torch.arange(24.0)).sum(1) / moved.sum((1, 2, 3))
    assert 2 < places.max() - places.min() < 10
    assert moved.min() == 0


def test_a_turned_cell_keeps_its_shape_on_an_image_that_is_not_square():
    torch.manual_seed(0)
    distance = (torch.arange(20)[:, None] - 9.5) ** 2 + (torch.arange(40) - 19.5) ** 2
    round_cell = torch.exp(-distance / 18).expand(50, 1, 20, 40)
    assert (views.move(round_cell, scale=0.0, shift=0, turned=True) - round_cell).abs().max() < 0.03


def test_half_of_the_views_are_blurred_and_none_gets_brighter():
    torch.manual_seed(0)
    images = cell(400)
    blurred = views.blur(images, 2.0)
    sharp = (blurred - images).abs().amax((1, 2, 3)) < 1e-4
    assert 0.4 < sharp.float().mean() < 0.6
    assert torch.allclose(blurred.sum((1, 2, 3)), images.sum((1, 2, 3)), rtol=1e-3)
    assert blurred.amax((1, 2, 3)).min() < 0.6


def test_the_lamp_changes_in_gain_level_and_slope():
    torch.manual_seed(0)
    images = cell(400)
    lit = views.light(images, torch.ones(400, 1, 1, 1), 0.4)
    difference = (lit - images)[:, 0, [0, -1]]
    level, slope = difference.mean((1, 2)), (difference[:, 1] - difference[:, 0]).mean(1)
    assert 0.15 < level.abs().max() <= 0.2001
    assert 0.3 < slope.abs().max() <= 0.4001
