"""The CNNs by name: a backbone maps images of one channel or several to a (B, C, h, w) feature map.

Most come from torchvision, with two changes: the stem takes grey channels in place of colours, and the classifier is
removed, because `fatescope.networks.network` gives every backbone the same head.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fatescope.errors import ParamsError
from fatescope.networks import vision_tower

Weights = str | dict[str, Tensor]
"""`none`, `imagenet`, or a state dict of torchvision's model of that name."""


@dataclass(frozen=True)
class Backbone:
    """A feature extractor and the number of channels of its feature map."""

    features: nn.Module
    channels: int


def build(name: str, weights: str, input_size: tuple[int, int], channels: int = 1) -> Backbone:
    """Build the backbone `name` for images of `channels` with `weights`: `none`, `imagenet`, or a state dict's path.

    The file, read by `torch.load` unless it ends in .safetensors, has the weights of torchvision's model or those of a
    bundle; of an ensemble, the first member with this backbone is taken. The backbone `vision_tower` is that of the
    LLaVA in the folder `weights`.
    Raises ParamsError for an unknown name, an input size that is too small, or weights that cannot be obtained.
    """
    if name == vision_tower.NAME:
        return Backbone(*vision_tower.load(Path(weights), input_size, channels))
    if name not in BACKBONES:
        raise ParamsError(f"train.backbone: '{name}' is not one of {sorted([*BACKBONES, vision_tower.NAME])}")
    if min(input_size) < SMALLEST.get(name, 0):
        raise ParamsError(f"train.input_size: {name} needs {SMALLEST[name]} px a side or more, got {list(input_size)}")
    if weights in {"none", "imagenet"}:
        return BACKBONES[name](weights, channels)
    state = _read_state_dict(Path(weights))
    try:
        return _from_bundle(name, state, channels) if "temperature" in state else BACKBONES[name](state, channels)
    except RuntimeError as error:
        of = f"{name} with {channels} channels" if channels > 1 else name
        raise ParamsError(f"train.weights: {weights} does not hold the weights of {of}: {error}") from error


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ParamsError(f"train.weights: '{path}' is neither none, nor imagenet, nor a file")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    # A damaged or foreign file raises anything: unpickling has as many ways to fail as there are classes.
    except Exception as error:
        raise ParamsError(f"train.weights: {path} cannot be read as weights ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise ParamsError(f"train.weights: {path} holds a {type(state).__name__} instead of a state dict")
    return state


def _from_bundle(name: str, state: dict[str, Tensor], channels: int) -> Backbone:
    """Return the backbone of a `Network`, or of the first member of an `Ensemble` that has the backbone `name`."""
    backbone = BACKBONES[name]("none", channels)
    prefixes = sorted({match[0] for key in state if (match := re.match(r"(members\.\d+\.)?features\.", key))})
    mismatch = RuntimeError("it has no backbone")
    for prefix in prefixes:
        member = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        try:
            backbone.features.load_state_dict(member)
        except RuntimeError as error:
            mismatch = error
        else:
            return backbone
    raise mismatch


def _resnet(name: str, weights: Weights, channels: int, width: int) -> Backbone:
    model = _torchvision(name, weights)
    stem = (_grey_stem(model.conv1, channels), model.bn1, model.relu, model.maxpool)
    return Backbone(nn.Sequential(*stem, model.layer1, model.layer2, model.layer3, model.layer4), width)


def _resnet18(weights: Weights, channels: int) -> Backbone:
    return _resnet("resnet18", weights, channels, 512)


def _resnet50(weights: Weights, channels: int) -> Backbone:
    return _resnet("resnet50", weights, channels, 2048)


def _mobilenet(name: str, weights: Weights, channels: int, width: int) -> Backbone:
    features = _torchvision(name, weights).features
    features[0][0] = _grey_stem(features[0][0], channels)
    return Backbone(features, width)


def _mobilenet_v2(weights: Weights, channels: int) -> Backbone:
    return _mobilenet("mobilenet_v2", weights, channels, 1280)


def _mobilenet_v3_large(weights: Weights, channels: int) -> Backbone:
    return _mobilenet("mobilenet_v3_large", weights, channels, 960)


def _vgg19_bn(weights: Weights, channels: int) -> Backbone:
    features = _torchvision("vgg19_bn", weights).features
    features[0] = _grey_stem(features[0], channels)
    # Without the last pooling: the head pools over all positions.
    return Backbone(features[:-1], 512)


def _inception_v3(weights: Weights, channels: int) -> Backbone:
    """Return Inception v3 up to its last mixed block; it needs images of 75 px or more on each side."""
    model = _torchvision("inception_v3", weights)
    model.Conv2d_1a_3x3.conv = _grey_stem(model.Conv2d_1a_3x3.conv, channels)
    # In the order of torchvision's own forward, without the auxiliary classifier.
    names = (
        "Conv2d_1a_3x3",
        "Conv2d_2a_3x3",
        "Conv2d_2b_3x3",
        "maxpool1",
        "Conv2d_3b_1x1",
        "Conv2d_4a_3x3",
        "maxpool2",
    )
    blocks = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
    layers = [getattr(model, name) for name in (*names, *(f"Mixed_{block}" for block in blocks))]
    return Backbone(nn.Sequential(*layers), 2048)


def _compact(weights: Weights, channels: int) -> Backbone:
    """Return the architecture of the paper's own network (arXiv 2312.06665): three times convolution and pooling."""
    if weights != "none":
        raise ParamsError(
            "train.weights: torchvision has none for the backbone compact; set none, or the path of a bundle's weights"
        )
    widths, layers = (channels, 32, 64, 128), list[nn.Module]()
    for narrow, wide in pairwise(widths):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2)]
    return Backbone(nn.Sequential(*layers), widths[-1])


BACKBONES: dict[str, Callable[[Weights, int], Backbone]] = {
    "compact": _compact,
    "inception_v3": _inception_v3,
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v3_large": _mobilenet_v3_large,
    "resnet18": _resnet18,
    "resnet50": _resnet50,
    "vgg19_bn": _vgg19_bn,
}
SMALLEST = {"inception_v3": 75}
"""Backbone → the shortest side, px, of images that it accepts; others accept any."""


def _torchvision(name: str, weights: Weights) -> Any:  # noqa: ANN401  its layers are attributes that torch does not type
    if weights == "none":
        return _build_torchvision(name, None)
    if weights == "imagenet":
        try:
            return _build_torchvision(name, "DEFAULT")
        # torch raises RuntimeError where the hash of the download is wrong.
        except (URLError, OSError, HTTPException, RuntimeError) as error:
            raise ParamsError(
                f"train.weights: the imagenet weights of {name} cannot be downloaded ({error}); "
                "set train.weights to none or to the path of a file with weights"
            ) from error
    assert isinstance(weights, dict), "`build` passes no other name"
    model = _build_torchvision(name, None)
    model.load_state_dict(weights)
    return model


def _build_torchvision(name: str, weights: str | None) -> nn.Module:
    import torchvision  # noqa: PLC0415  it takes seconds, which a compact network need not wait for

    # Inception would spend half a minute on truncated normals, which train no better here.
    options = {"init_weights": False} if name == "inception_v3" and weights is None else {}
    model: nn.Module = torchvision.models.get_model(name, weights=weights, **options)
    return model


def _grey_stem(colour: nn.Conv2d, channels: int = 1) -> nn.Conv2d:
    """Return a convolution of `channels` that maps equal ones to what `colour` makes of three equal channels."""
    grey = nn.Conv2d(
        channels,
        colour.out_channels,
        colour.kernel_size,  # type: ignore[arg-type]  # torch types all three wider than they are
        colour.stride,  # type: ignore[arg-type]
        colour.padding,  # type: ignore[arg-type]
        bias=colour.bias is not None,
    )
    with torch.no_grad():
        grey.weight.copy_(colour.weight.sum(1, keepdim=True) / channels)
        if grey.bias is not None:
            grey.bias.copy_(_present(colour.bias))
    return grey


def _present(bias: Tensor | None) -> Tensor:
    assert bias is not None
    return bias
