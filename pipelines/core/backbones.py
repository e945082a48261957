"""The CNNs by name: each turns (B, 1, H, W) images into a (B, C, h, w) feature map.

They come from torchvision, with two changes: the stem takes one grey channel, and the classifier is left off, because
`pipelines.core.network` gives each the same head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from pipelines.core.errors import ParamsError


@dataclass(frozen=True)
class Backbone:
    """A feature extractor and the number of channels that it ends in."""

    features: nn.Module
    channels: int


def build(name: str, weights: str) -> Backbone:
    """Build the backbone `name` with `weights`: `none`, `imagenet`, or the path of a state dict.

    Raises ParamsError for an unknown name and for weights that cannot be had.
    """
    if name not in BACKBONES:
        raise ParamsError(f"train.backbone: '{name}' is none of {sorted(BACKBONES)}")
    return BACKBONES[name](weights)


def _resnet18(weights: str) -> Backbone:
    model = _torchvision("resnet18", weights)
    model.conv1 = _grey_stem(model.conv1)
    stem = (model.conv1, model.bn1, model.relu, model.maxpool)
    return Backbone(nn.Sequential(*stem, model.layer1, model.layer2, model.layer3, model.layer4), 512)


def _compact(weights: str) -> Backbone:
    """Return the shape of the paper's own network (arXiv 2312.06665): convolution and pooling, three times."""
    if weights != "none":
        raise ParamsError(f"train.weights: '{weights}' does not exist for backbone compact; set none")
    widths, layers = (1, 32, 64, 128), list[nn.Module]()
    for narrow, wide in pairwise(widths):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2)]
    return Backbone(nn.Sequential(*layers), widths[-1])


BACKBONES: dict[str, Callable[[str], Backbone]] = {"compact": _compact, "resnet18": _resnet18}


def _torchvision(name: str, weights: str) -> Any:  # noqa: ANN401  its layers are attributes that torch does not type
    if weights == "none":
        return _built(name, None)
    if weights == "imagenet":
        try:
            return _built(name, "DEFAULT")
        except (URLError, OSError) as error:
            raise ParamsError(
                f"train.weights: the imagenet weights of {name} cannot be downloaded ({error}); "
                "set train.weights to none or to the path of a file that holds them"
            ) from error
    path = Path(weights)
    if not path.is_file():
        raise ParamsError(f"train.weights: '{weights}' is neither none, imagenet nor a file")
    model = _built(name, None)
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ParamsError(f"train.weights: {path} does not hold the weights of {name}: {error}") from error
    return model


def _built(name: str, weights: str | None) -> nn.Module:
    model: nn.Module = torchvision.models.get_model(name, weights=weights)
    return model


def _grey_stem(colour: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution of one channel that answers to a grey image as `colour` does to it three times over."""
    grey = nn.Conv2d(
        1,
        colour.out_channels,
        colour.kernel_size,  # type: ignore[arg-type]  # torch types it wider than it is
        colour.stride,  # type: ignore[arg-type]
        colour.padding,  # type: ignore[arg-type]
        bias=colour.bias is not None,
    )
    with torch.no_grad():
        grey.weight.copy_(colour.weight.sum(1, keepdim=True))
        if grey.bias is not None:
            grey.bias.copy_(_present(colour.bias))
    return grey


def _present(bias: Tensor | None) -> Tensor:
    assert bias is not None
    return bias
