import math

import pytest
import torch

from fatescope.inference import cam
from fatescope.networks import backbones

SIDE = 256


def looks_at(backbone):
    """Return where the middle position of a feature map looks, by the slope of what it says over the input."""
    torch.manual_seed(0)
    features = backbones.build(backbone, "none", (SIDE, SIDE)).features.eval()
    image = torch.rand(1, 1, SIDE, SIDE, requires_grad=True)
    found = features(image)
    middle = found.shape[3] // 2
    [slope] = torch.autograd.grad(found[0, :, middle, middle].square().sum(), image)
    weight = slope[0, 0].square().sum(0)
    step = SIDE / 2 ** round(math.log2(found.shape[3]))
    return float((weight * torch.arange(SIDE)).sum() / weight.sum()) - step * middle, step


@pytest.mark.parametrize("backbone", backbones.BACKBONES)
def test_where_a_position_of_the_feature_map_looks(backbone):
    first, step = cam.ALIGNMENT[backbone]
    found = looks_at(backbone)
    assert found[1] == step
    # The weights are random: what a position looks at weighs to one side or the other.
    assert found[0] == pytest.approx(first, abs=step / 6)
