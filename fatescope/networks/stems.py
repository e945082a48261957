"""Fewer strides for small crops: a position of the feature map every 8 px of the input, in place of 16 or 32.

Backbones were made for images of 224 px or more. Of a cell at 60x60 they leave 2x2 positions, on which an activation
map shows nothing. Strides go, and so does the last stage, which would see no more of so small an image and would cost
most; no kernel changes, so that pretrained weights fit. `compact` has a position every 8 px as it is.
"""

from collections.abc import Callable
from typing import cast

from torch import nn

Shrink = Callable[[nn.Sequential], tuple[nn.Sequential, int]]
"""Changes the layers of a backbone to those of `small`, and returns them with the number of their channels."""


def _residual(width: int) -> Shrink:
    """Return what leaves the last stage of a ResNet out, and the stride of the one before it, of `width` channels."""

    def shrink(features: nn.Sequential) -> tuple[nn.Sequential, int]:
        _unstride(features[-2])
        return features[:-1], width

    return shrink


def _mobile(blocks: int, width: int) -> Shrink:
    """Return what leaves out all but the first `blocks` of a MobileNet, and the stride of the eighth."""

    def shrink(features: nn.Sequential) -> tuple[nn.Sequential, int]:
        _unstride(features[7])
        return features[:blocks], width

    return shrink


def _vgg(features: nn.Sequential) -> tuple[nn.Sequential, int]:
    """Leave the fourth pooling of VGG out, the last that there is, and have the third keep what is left at the edge."""
    *_, third, fourth = [i for i, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
    features[third] = nn.MaxPool2d(2, ceil_mode=True)
    features[fourth] = nn.Identity()
    return features, 512


def _inception(features: nn.Sequential) -> tuple[nn.Sequential, int]:
    """Leave the last three blocks of Inception v3 out and the stride of its second pooling, and pad its stem.

    The last convolution of the stem is padded by two, because the block that halves the map has no padding of its own.
    """
    for place, padding in ((0, 1), (1, 1), (5, 2)):
        convolution = cast("nn.Conv2d", features[place].conv)
        convolution.padding = (padding, padding)
    features[3] = nn.MaxPool2d(3, stride=2, padding=1)
    features[6] = nn.MaxPool2d(3, stride=1, padding=1)
    return features[:-3], 768


SMALL: dict[str, Shrink] = {
    "inception_v3": _inception,
    "mobilenet_v2": _mobile(14, 96),
    "mobilenet_v3_large": _mobile(13, 112),
    "resnet18": _residual(256),
    "resnet50": _residual(1024),
    "vgg19_bn": _vgg,
}
"""Backbones that differ with `train.stem: small`; others are the same with both."""


def _unstride(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)
