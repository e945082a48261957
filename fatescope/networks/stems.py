"""Fewer strides for small crops: a position of the feature map every 8 px of the input, in place of 16 or 32.

Backbones were made for images of 224 px or more. Of a cell at 60x60 they leave 2x2 positions, on which an activation
map shows nothing. Strides go, and so does the last stage, which would see no more of so small an image and would cost
most; no kernel changes, so that pretrained weights fit. `compact` has a position every 8 px as it is.
"""

from collections.abc import Callable

from torch import nn


def _residual(features: nn.Sequential) -> tuple[nn.Sequential, int]:
    """Leave the last stage of a ResNet out, and the stride of the one before it."""
    layers = features[:-1]
    _unstride(layers[-1])
    last = layers[-1][-1]
    return layers, last.bn3.num_features if hasattr(last, "bn3") else last.bn2.num_features


def _mobile(blocks: int, width: int) -> Callable[[nn.Sequential], tuple[nn.Sequential, int]]:
    """Return what leaves out all but the first `blocks` of a MobileNet, and the stride of the eighth."""

    def shrink(features: nn.Sequential) -> tuple[nn.Sequential, int]:
        _unstride(features[7])
        return features[:blocks], width

    return shrink


def _vgg(features: nn.Sequential) -> tuple[nn.Sequential, int]:
    """Leave the fourth pooling of VGG out, the last that there is, and have the third keep what is left at the edge."""
    *_, third, fourth = [i for i, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
    features[third].ceil_mode = True
    features[fourth] = nn.Identity()
    return features, 512


def _inception(features: nn.Sequential) -> tuple[nn.Sequential, int]:
    """Leave the last three blocks of Inception v3 out and the stride of its second pooling, and pad its stem."""
    for layer in (features[0].conv, features[1].conv, features[3], features[6]):
        layer.padding = 1
    for layer in (features[0].conv, features[1].conv):
        layer.padding = (1, 1)
    # By two, because the block that halves the map has no padding of its own.
    features[5].conv.padding = (2, 2)
    features[6].stride = 1
    return features[:-3], 768


SMALL: dict[str, Callable[[nn.Sequential], tuple[nn.Sequential, int]]] = {
    "inception_v3": _inception,
    "mobilenet_v2": _mobile(14, 96),
    "mobilenet_v3_large": _mobile(13, 112),
    "resnet18": _residual,
    "resnet50": _residual,
    "vgg19_bn": _vgg,
}
"""Backbone → what makes its layers those of `train.stem: small`, and returns them with the number of their channels;
others are the same in both."""


def _unstride(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)
