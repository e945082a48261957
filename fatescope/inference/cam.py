"""Register class activation maps with the crops that they explain, and draw them.

A position of a feature map corresponds to the centre of its receptive field in the input, which follows from the
strides and paddings of the layers before it (Araujo, Norris and Sim 2019).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

ALIGNMENT = {
    "compact": (3.5, 8),
    "inception_v3": (37.0, 32),
    "mobilenet_v2": (0.0, 32),
    "mobilenet_v3_large": (0.0, 32),
    "resnet18": (0.0, 32),
    "resnet50": (0.0, 32),
    "vgg19_bn": (7.5, 16),
}
"""Backbone → centre of the receptive field of its first position, and the step to the next, px of the input."""
SMALL_ALIGNMENT = {"compact": (3.5, 8), "vgg19_bn": (3.5, 8)}
"""The same with `train.stem: small`; other backbones have 0 and 8 there."""
PADDING = 3
"""Positions by which a map is extended at each side, with the value at its edge."""


def extent(
    crop: tuple[int, ...], canvas: tuple[int, int], fits: list[dict[str, Any]], positions: tuple[int, ...]
) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of a map of `positions` (rows, columns), in px of its crop (height, width).

    `fits` are the sections `train` of the members; the map has the grid of the member with the finest one.
    """
    fit = finest(fits)
    first, step = alignment(fit)
    scales = [size / side for size, side in zip(fit["input_size"], canvas, strict=True)]
    if fit["resize"] == "pad":
        scales = [min(scales)] * 2
    edges = []
    for axis in (1, 0):
        # Input, canvas and crop have one centre.
        input_centre, centre = (fit["input_size"][axis] - 1) / 2, (crop[axis] - 1) / 2
        if fit.get("views") == "symmetries":
            # The mean over the inverted symmetries is symmetric about the centre of the input.
            first = (fit["input_size"][axis] - 1 - step * (positions[axis] - 1)) / 2
        ends = (first - step / 2, first + step * (positions[axis] - 0.5))
        edges += [centre + (end - input_centre) / scales[axis] for end in ends]
    left, right, top, bottom = edges
    return left, right, bottom, top


def finest(fits: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the member of an ensemble whose feature map has the most positions."""
    return max(fits, key=lambda fit: fit["input_size"][0] * fit["input_size"][1] / alignment(fit)[1] ** 2)


def alignment(fit: dict[str, Any]) -> tuple[float, int]:
    """Return the centre of the first receptive field and the step to the next of a section `train`, px of the input."""
    # Bundles of before there were several stems have none.
    if fit.get("stem", "standard") == "small":
        return SMALL_ALIGNMENT.get(fit["backbone"], (0.0, 8))
    return ALIGNMENT[fit["backbone"]]


def overlay(
    activation: npt.NDArray[np.float32], crop: tuple[int, int], canvas: tuple[int, int], fits: list[dict[str, Any]]
) -> Image.Image:
    """Draw the (h, w) map of one class as a translucent image of the size of its crop (height, width).

    Red is evidence for the class, blue against it; the image is transparent where the map is zero.
    """
    height, width = crop
    strength = np.clip(register(activation, crop, canvas, fits) / (_strongest(activation) or 1.0), -1, 1)
    image = np.zeros((height, width, 4), np.uint8)
    image[..., 0] = np.where(strength > 0, 214, 33)
    image[..., 1] = np.where(strength > 0, 47, 102)
    image[..., 2] = np.where(strength > 0, 39, 172)
    image[..., 3] = np.round(np.abs(strength) * 170)
    return Image.fromarray(image, "RGBA")


def register(
    activation: npt.NDArray[np.float32], crop: tuple[int, int], canvas: tuple[int, int], fits: list[dict[str, Any]]
) -> npt.NDArray[np.float32]:
    """Return the (h, w) map of one class at each pixel of its crop (height, width), interpolated between positions."""
    height, width = crop
    left, right, bottom, top = extent(crop, canvas, fits, activation.shape)
    # Beyond its outermost positions the map continues with the values at its edge.
    padded = np.pad(activation, PADDING, mode="edge")
    steps = (right - left) / activation.shape[1], (bottom - top) / activation.shape[0]
    box = [
        PADDING + (-0.5 - left) / steps[0],
        PADDING + (-0.5 - top) / steps[1],
        PADDING + (width - 0.5 - left) / steps[0],
        PADDING + (height - 0.5 - top) / steps[1],
    ]
    limits = (padded.shape[1], padded.shape[0]) * 2
    box = [min(max(edge, 0.0), limit) for edge, limit in zip(box, limits, strict=True)]
    return np.asarray(Image.fromarray(padded).resize((width, height), Image.Resampling.BILINEAR, box=tuple(box)))


def contributions(activation: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return what one position of an (h, w) map adds to the logit where `overlay` is fully red, and what all add.

    Where it is fully blue, a position takes as much from it. The logit is the mean over the map and a bias, which is
    the same for all cells, so that each of the positions has its part of that mean.
    """
    return _strongest(activation) / activation.size, float(activation.mean())


def _strongest(activation: npt.NDArray[np.float32]) -> float:
    return float(np.abs(activation).max())
