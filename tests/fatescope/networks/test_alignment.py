import math

import pytest
import torch

from fatescope.inference import cam
from fatescope.networks import backbones

SIDE = 256


def receptive_field(backbone, stem):
    """Return the centre of the receptive field of the first position and the step to the next, from gradients."""
    torch.manual_seed(0)
    features = backbones.build(backbone, "none", (SIDE, SIDE), stem=stem).features.eval()
    image = torch.rand(1, 1, SIDE, SIDE, requires_grad=True)
    feature_map = features(image)
    middle = feature_map.shape[3] // 2
    [gradient] = torch.autograd.grad(feature_map[0, :, middle, middle].square().sum(), image)
    weight = gradient[0, 0].square().sum(0)
    step = SIDE / 2 ** round(math.log2(feature_map.shape[3]))
    return float((weight * torch.arange(SIDE)).sum() / weight.sum()) - step * middle, step


@pytest.mark.parametrize("stem", ["standard", "small"])
@pytest.mark.parametrize("backbone", backbones.BACKBONES)
def test_the_centre_of_the_receptive_field_of_a_position(backbone, stem):
    expected, expected_step = cam.alignment({"backbone": backbone, "stem": stem})
    first, step = receptive_field(backbone, stem)
    assert step == expected_step
    # The weights are random, so that the centre of gravity is off the centre of the field.
    assert first == pytest.approx(expected, abs=max(step / 6, 3))
