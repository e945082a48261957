import pytest
import torch

from fatescope.networks import symmetry


@pytest.mark.parametrize(
    ("canvas", "size", "how", "expected"),
    [
        ((60, 80), (60, 60), "stretch", True),
        ((60, 80), (45, 60), "stretch", False),
        ((60, 80), (60, 60), "pad", False),
        ((40, 40), (60, 60), "stretch", False),
    ],
)
def test_what_is_stretched(canvas, size, how, expected):
    assert symmetry.is_stretched(canvas, size, how) is expected


@pytest.mark.parametrize(
    ("size", "stretched", "count"), [((60, 60), False, 8), ((60, 60), True, 4), ((45, 60), False, 4)]
)
def test_symmetries_are_all_different_and_can_be_inverted(size, stretched, count):
    symmetries = symmetry.symmetries_of(size, stretched)
    image = torch.arange(size[0] * size[1]).reshape(1, 1, *size)
    views = [one.apply(image) for one in symmetries]
    assert len({view.flatten().numpy().tobytes() for view in views}) == len(symmetries) == count
    for view, one in zip(views, symmetries, strict=True):
        assert torch.equal(one.invert(view), image)
