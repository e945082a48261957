import torch

from pipelines.training import augmentation


def test_a_square_gets_all_eight_symmetries():
    torch.manual_seed(0)
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    seen = {tuple(each.flatten().tolist()) for each in augmentation.random_symmetry(image.repeat(400, 1, 1, 1))}
    expected = set()
    for turns in range(4):
        turned = torch.rot90(image, turns, (2, 3))
        expected |= {tuple(turned.flatten().tolist()), tuple(turned.flip(3).flatten().tolist())}
    assert seen == expected
    assert len(seen) == 8


def test_a_rectangle_keeps_its_shape():
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    seen = {tuple(each.flatten().tolist()) for each in augmentation.random_symmetry(image.repeat(100, 1, 1, 1))}
    assert len(seen) == 4


def test_what_was_stretched_along_one_axis_is_not_turned(make_params):
    params = make_params({"train.max_shift": 0, "train.intensity": 0.0}).train
    image = torch.arange(9.0).reshape(1, 1, 3, 3).repeat(200, 1, 1, 1)
    count = {}
    for stretched in (False, True):
        seen = augmentation.augment(image, params, stretched)
        count[stretched] = len({tuple(each.flatten().tolist()) for each in seen})
    assert count == {False: 8, True: 4}


def test_a_shift_moves_each_image_and_lets_background_in():
    torch.manual_seed(0)
    images = torch.zeros(200, 1, 9, 9)
    images[:, 0, 4, 4] = 1
    moved = augmentation.shift(images, 2)
    places = moved[:, 0].flatten(1).argmax(1)
    assert {int(place) for place in places} == {row * 9 + column for row in range(2, 7) for column in range(2, 7)}
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(200))
    assert augmentation.shift(torch.ones(50, 1, 9, 9), 2).min() == 0


def test_intensity_changes_within_its_share():
    torch.manual_seed(0)
    images = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2).repeat(500, 1, 1, 1)
    changed = augmentation.change_intensity(images, 0.2)
    level, contrast = changed[:, 0, 0, 0], changed[:, 0, 0, 1] - changed[:, 0, 0, 0]
    assert 0.09 < level.abs().max() <= 0.1
    assert 0.8 <= contrast.min() < 0.82
    assert 1.18 < contrast.max() <= 1.2001


def test_nothing_is_changed_where_nothing_is_asked(make_params):
    params = make_params({"train.symmetries": False, "train.max_shift": 0, "train.intensity": 0.0}).train
    images = torch.rand(4, 1, 5, 7)
    assert torch.equal(augmentation.augment(images, params, stretched=False), images)


def test_the_channels_of_a_cell_are_moved_together(make_params):
    torch.manual_seed(0)
    params = make_params({"train.max_shift": 3, "train.intensity": 0.0}).train
    image = torch.rand(50, 1, 20, 30)
    moved = augmentation.augment(torch.cat([image, 2 * image], dim=1), params, stretched=False)
    torch.testing.assert_close(moved[:, 1], 2 * moved[:, 0])
    assert not torch.equal(moved[:, :1], image)


def test_the_intensity_of_each_channel_changes_by_itself():
    torch.manual_seed(0)
    changed = augmentation.change_intensity(torch.ones(500, 2, 4, 4), 0.2)
    one, other = changed[:, 0, 0, 0], changed[:, 1, 0, 0]
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.15
    assert (changed == changed[:, :, :1, :1]).all()
