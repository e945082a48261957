"""Where an activation map lies on the crop that it explains.

A position of a feature map looks at a place of the input: the middle of its receptive field, which follows from the
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
"""Backbone → the px of the input that its first position looks at, and the step to the next, along either axis."""
FAR = 3
"""Positions that an axis of a map is extended by on either side, with the value at its edge."""


def extent(
    crop: tuple[int, ...], canvas: tuple[int, int], fits: list[dict[str, Any]], positions: tuple[int, ...]
) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of a map (`positions` along each axis), in px of a crop (height, width).

    `fits` are the sections `train` of the members, of which the one with the finest map gave the grid.
    """
    fit = finest(fits)
    first, step = ALIGNMENT[fit["backbone"]]
    scales = [size / side for size, side in zip(fit["input_size"], canvas, strict=True)]
    if fit["resize"] == "pad":
        scales = [min(scales)] * 2
    edges = []
    for axis in (1, 0):
        # The middle of the input is the middle of the canvas, and that of the crop.
        middle_in, middle = (fit["input_size"][axis] - 1) / 2, (crop[axis] - 1) / 2
        if fit.get("views") == "symmetries":
            # The mean of maps that were turned back lies evenly on the input.
            first = (fit["input_size"][axis] - 1 - step * (positions[axis] - 1)) / 2
        ends = (first - step / 2, first + step * (positions[axis] - 0.5))
        edges += [middle + (end - middle_in) / scales[axis] for end in ends]
    left, right, top, bottom = edges
    return left, right, bottom, top


def finest(fits: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the member of an ensemble whose feature map has the most positions."""
    return max(fits, key=lambda fit: fit["input_size"][0] * fit["input_size"][1] / ALIGNMENT[fit["backbone"]][1] ** 2)


def overlay(
    activation: npt.NDArray[np.float32], crop: tuple[int, int], canvas: tuple[int, int], fits: list[dict[str, Any]]
) -> Image.Image:
    """Draw a map (h, w) of one class as a translucent picture of the size of its crop (height, width).

    Red speaks for the class, blue against it; nothing is drawn where the map is silent.
    """
    height, width = crop
    left, right, bottom, top = extent(crop, canvas, fits, activation.shape)
    # Beyond the outermost positions the map goes on as it is at its edge.
    padded = np.pad(activation, FAR, mode="edge")
    steps = (right - left) / activation.shape[1], (bottom - top) / activation.shape[0]
    box = [
        FAR + (-0.5 - left) / steps[0],
        FAR + (-0.5 - top) / steps[1],
        FAR + (width - 0.5 - left) / steps[0],
        FAR + (height - 0.5 - top) / steps[1],
    ]
    limits = (padded.shape[1], padded.shape[0]) * 2
    box = [min(max(edge, 0.0), limit) for edge, limit in zip(box, limits, strict=True)]
    fitted = np.asarray(Image.fromarray(padded).resize((width, height), Image.Resampling.BILINEAR, box=tuple(box)))
    strength = np.clip(fitted / (float(np.abs(activation).max()) or 1.0), -1, 1)
    picture = np.zeros((height, width, 4), np.uint8)
    picture[..., 0] = np.where(strength > 0, 214, 33)
    picture[..., 1] = np.where(strength > 0, 47, 102)
    picture[..., 2] = np.where(strength > 0, 39, 172)
    picture[..., 3] = np.round(np.abs(strength) * 170)
    return Image.fromarray(picture, "RGBA")
