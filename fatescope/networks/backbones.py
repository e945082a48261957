"""The CNNs by name: a backbone maps images of one channel or several to a (B, C, h, w) feature map.

Most come from torchvision, with two changes: the stem takes grey channels in place of colours, and the classifier is
removed, because `fatescope.networks.network` gives every backbone the same head.
"""

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fatescope.errors import ParamsError
from fatescope.networks import vision_tower
from fatescope.networks.stems import SMALL

Weights = str | dict[str, Tensor]
"""`none`, `imagenet`, or a state dict of torchvision's model of that name."""


@dataclass(frozen=True)
class Backbone:
    """A feature extractor and the number of channels of its feature map."""

    features: nn.Module
    channels: int
    photographs: bool = False
    """Whether it learned from photographs, and takes images of their brightness and contrast."""
    centred: bool = False
    """Whether these were scaled to -1 to 1, as torchvision does for CENTRED inside of the model, which is left out."""


def build(name: str, weights: str, input_size: tuple[int, int], channels: int = 1, stem: str = "standard") -> Backbone:
    """Build the backbone `name` for images of `channels` with `weights`: `none`, `imagenet`, or a state dict's path.

    The file, read by `torch.load` unless it ends in .safetensors, has the weights of torchvision's model or those of a
    bundle, of any precision; of an ensemble, the first member with this backbone is taken. The stem `small` takes
    weights of `standard` too, because it has no others. The backbone `vision_tower`
    is that of the LLaVA in the folder `weights`.
    Raises ParamsError for an unknown name, an input size that is too small, or weights that cannot be obtained.
    """
    if name == vision_tower.NAME:
        return Backbone(*vision_tower.load(Path(weights), input_size, channels))
    if name not in BACKBONES:
        raise ParamsError(f"train.backbone: '{name}' is not one of {sorted([*BACKBONES, vision_tower.NAME])}")
    if min(input_size) < (smallest := smallest_side(name, stem)):
        raise ParamsError(f"train.input_size: {name} needs {smallest} px a side or more, got {list(input_size)}")
    if weights in {"none", "imagenet"}:
        return _of_photographs(name, _make(name, weights, channels, stem), photographs=weights == "imagenet")
    state = _read_state_dict(Path(weights))
    try:
        return _load(name, state, channels, stem)
    except RuntimeError as error:
        of = f"{name} with {channels} channels" if channels > 1 else name
        others = [other for other in BACKBONES if _fits(other, state, channels)]
        # PyTorch names every tensor of both.
        instead = (
            f"it holds those of {others[0]}; set train.backbone to {others[0]}, or give another file"
            if others
            else textwrap.shorten(str(error), 300)
        )
        raise ParamsError(f"train.weights: {weights} does not hold the weights of {of}: {instead}") from error


def _load(name: str, state: dict[str, Tensor], channels: int, stem: str = "standard") -> Backbone:
    if "temperature" in state:
        return _from_bundle(name, state, channels, stem)
    return _of_photographs(name, _make(name, state, channels, stem), photographs=True)


def _of_photographs(name: str, backbone: Backbone, *, photographs: bool) -> Backbone:
    return replace(backbone, photographs=photographs, centred=photographs and name in CENTRED)


def _fits(name: str, state: dict[str, Tensor], channels: int) -> bool:
    # Shapes alone decide: nothing is initialised or copied there.
    shapes = {key: value.to("meta") for key, value in state.items() if isinstance(value, Tensor)}
    try:
        with torch.device("meta"):
            _load(name, shapes, channels)
    except (RuntimeError, ParamsError):
        return False
    return True


def smallest_side(name: str, stem: str = "standard") -> int:
    """Return the shortest side, px, of images that the backbone `name` accepts; 0 where it accepts any."""
    return (SMALLEST_SMALL if stem == "small" else SMALLEST).get(name, 0)


def _make(name: str, weights: Weights, channels: int, stem: str) -> Backbone:
    backbone = BACKBONES[name](weights, channels)
    if stem == "small" and name in SMALL:
        return Backbone(*SMALL[name](cast("nn.Sequential", backbone.features)))
    return backbone


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        known = path.is_file()
    except OSError as error:
        # A name that is too long, or a folder that may not be read.
        raise ParamsError(f"train.weights: '{str(path)[:100]}' cannot be read: {error.strerror}") from error
    if not known:
        raise ParamsError(f"train.weights: '{path}' is neither none, nor imagenet, nor a file")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    # A damaged or foreign file raises anything: unpickling has as many ways to fail as there are classes.
    except Exception as error:
        raise ParamsError(f"train.weights: {path} cannot be read as weights ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise ParamsError(f"train.weights: {path} holds a {type(state).__name__} instead of a state dict")
    for name, value in state.items():
        if problem := _why_no_weight(name, value):
            raise ParamsError(f"train.weights: {path} {problem}")
    return state


def _why_no_weight(name: object, value: object) -> str:
    """Return why an entry of a file is not a weight that a network can begin with; empty where it is one."""
    if not isinstance(name, str) or not isinstance(value, Tensor):
        kind = type(value).__name__
        return f"holds '{name}' of the type {kind}, which is no weight; save the state dict of the model alone"
    # Whole numbers count batches; a quantised weight would be taken for a float of a hundred times its size.
    if value.layout != torch.strided or value.is_complex() or (value.ndim and not value.is_floating_point()):
        kind = str(value.dtype if value.layout == torch.strided else value.layout).removeprefix("torch.")
        return f"holds {name} as {kind}; save it in a dense floating-point format, such as float16"
    if not value.float().isfinite().all():
        return f"holds numbers in {name} that are not finite: it is damaged, or its training diverged; give another"
    return ""


def _from_bundle(name: str, state: dict[str, Tensor], channels: int, stem: str) -> Backbone:
    """Return the backbone of a `Network`, or of the first member of an `Ensemble` that has the backbone `name`."""
    backbone = _make(name, "none", channels, stem)
    prefixes = sorted({match[0] for key in state if (match := re.match(r"(members\.\d+\.)?features\.", key))})
    mismatch = RuntimeError("it has no backbone")
    for prefix in prefixes:
        member = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if stem == "small":
            # A bundle with the standard stem has weights of later stages as well.
            member = {key: value for key, value in member.items() if key in backbone.features.state_dict()}
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
SMALLEST = {"compact": 8, "inception_v3": 75, "vgg19_bn": 16}
"""Backbone → the shortest side, px, of images that it accepts with the stem `standard`; others accept any."""
CENTRED = {"inception_v3"}
"""Those whose weights of torchvision take images from -1 to 1; others take them standardised."""
SMALLEST_SMALL = {"compact": 8, "vgg19_bn": 4}
"""The same with the stem `small`."""


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
