"""Features by which cytometrists tell good single cells from doublets, debris and bad images. NumPy only.

They are measured on the brightfield crop as the instrument cut it, the same in training and in the service.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fatescope.data.components import find_components
from fatescope.data.crops import Pixels, border, median

Floats = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]

QUALITY = (
    "area",  # px of the body of the object, which is without thin processes
    "aspect_ratio",  # minor over major axis of the body, 0 to 1
    "gradient_rms",  # root mean square gradient inside the object over its contrast, 1/px; falls with blur
    "border_contact",  # share of the outline of the object that lies on the border of the crop, 0 to 1
    "saturation",  # share of pixels at the top of the bit depth, 0 to 1
)
_CHUNK = 32
"""Cells that are processed together."""
_THRESHOLD = 2.2
"""Root mean square deviation over 3x3 px, in units of the spread of the background, from which pixels are object."""
_MAIN = 0.3
"""Share of the largest object from which others count as part of it: another cell does, a fragment does not."""
_OPENING = 0.42
"""Radius of the octagon over that of a disc of the size of the object: what is thinner is a process."""


def measure(crops: Sequence[Pixels], bit_depths: Sequence[int] | npt.NDArray[np.int64]) -> Floats:
    """Return the (B, len(QUALITY)) features of B crops (height, width) of any size, each with its bit depth."""
    parts = [
        _measure(crops[i : i + _CHUNK], np.asarray(bit_depths[i : i + _CHUNK])) for i in range(0, len(crops), _CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, len(QUALITY)), np.float32)


def _measure(crops: Sequence[Pixels], bit_depths: npt.NDArray[np.int64]) -> Floats:
    dev, inside, spread = _lay_out(crops)
    masks = _segment(dev, inside, spread)
    area = masks.sum((1, 2))
    bodies = _without_processes(masks, area, inside)
    body_area = bodies.sum((1, 2))
    top = 2.0**bit_depths - 1
    saturation = [
        float((crop >= limit).mean()) if crop.max() >= limit else 0.0 for crop, limit in zip(crops, top, strict=True)
    ]
    columns = (
        body_area,
        _aspect_ratio(bodies, body_area),
        _gradient_rms(dev, masks, area),
        _border_contact(masks, inside),
        saturation,
    )
    return np.stack(columns, axis=1).astype(np.float32)


def _lay_out(crops: Sequence[Pixels]) -> tuple[Floats, Masks, Floats]:
    """Return deviations from the background (B, H, W), where crops are in it, and the (B,) spreads of backgrounds.

    The crops lie in the corner, with a pixel around each that is not of it.
    """
    height, width = np.max([crop.shape for crop in crops], axis=0) + 2
    dev, inside = np.zeros((len(crops), height, width), np.float32), np.zeros((len(crops), height, width), bool)
    spread = np.zeros(len(crops), np.float32)
    for i, crop in enumerate(crops):
        place = (i, slice(1, crop.shape[0] + 1), slice(1, crop.shape[1] + 1))
        frame = border(crop)
        level = median(frame)
        dev[place] = crop - np.float32(level)
        inside[place] = True
        spread[i] = 1.4826 * median(np.abs(frame - level))
    return dev, inside, spread


def _segment(dev: Floats, inside: Masks, spread: Floats) -> Masks:
    """Return (B, H, W) masks of what differs from the background, without holes and specks."""
    limit = (_THRESHOLD * np.maximum(spread, 0.5)) ** 2
    masks = _box_sum(dev**2) > limit[:, None, None] * _box_sum(inside.astype(np.float32))
    masks &= inside
    closed = ~_dilate(~_dilate(masks)) & inside
    return _main_objects(_dilate(~_dilate(~_fill_holes(closed))) & inside)


def _box_sum(values: Floats) -> Floats:
    """Return the sum over 3x3 px neighbourhoods of (B, H, W) values that are 0 at the edges, where it is 0 too."""
    total = np.zeros_like(values)
    rows = values[:, :-2] + values[:, 1:-1]
    rows += values[:, 2:]
    inner = total[:, 1:-1, 1:-1]
    np.add(rows[:, :, :-2], rows[:, :, 1:-1], out=inner)
    inner += rows[:, :, 2:]
    return total


def _dilate(masks: Masks, corners: bool = True) -> Masks:
    """Return (B, H, W) masks grown by 1 px to all eight sides, or to four without the `corners`."""
    rows = masks.copy()
    rows[:, 1:] |= masks[:, :-1]
    rows[:, :-1] |= masks[:, 1:]
    source, grown = (rows, rows.copy()) if corners else (masks, rows)
    grown[:, :, 1:] |= source[:, :, :-1]
    grown[:, :, :-1] |= source[:, :, 1:]
    return grown


def _without_processes(masks: Masks, area: npt.NDArray[np.int64], inside: Masks) -> Masks:
    """Return (B, H, W) masks opened by an octagon that is in proportion to the object; all of one that would vanish.

    Cells that touch stay joined by what is left of the waist, or become two bodies.
    """
    radius = np.rint(_OPENING * np.sqrt(area / np.pi)).astype(int)
    bodies = masks.copy()
    for steps in np.unique(radius[radius > 0]):
        rows = radius == steps
        missing, present = inside[rows] & ~masks[rows], inside[rows]
        for i in range(steps):
            missing = _dilate(missing, corners=i % 2 == 0)
        opened = present & ~missing
        for i in range(steps):
            opened = _dilate(opened, corners=i % 2 == 0)
        opened &= masks[rows]
        bodies[rows] = np.where(opened.any((1, 2))[:, None, None], opened, masks[rows])
    return bodies


def _fill_holes(masks: Masks) -> Masks:
    """Return (B, H, W) masks, none of whose pixels is at an edge, without holes."""
    outside = find_components(~masks)
    # What is not connected to the pixels around the crop is a hole.
    around = np.unique(outside.of_image, return_index=True)[1]
    hole = np.ones(len(outside.of_image), bool)
    hole[around] = False
    filled: Masks = masks | outside.paint(hole)
    return filled


def _main_objects(masks: Masks) -> Masks:
    """Return, of each of (B, H, W) masks, the largest object and those that are nearly as large."""
    objects = find_components(masks)
    sizes = objects.sizes
    largest = np.zeros(len(masks), np.int64)
    np.maximum.at(largest, objects.of_image, sizes)
    main: Masks = objects.paint(sizes >= _MAIN * largest[objects.of_image])
    return main


def _aspect_ratio(masks: Masks, area: npt.NDArray[np.int64]) -> Floats:
    """Return the minor over the major axis of ellipses with the second moments of the (B, H, W) masks; 0 for none."""
    weight = masks.astype(np.float32)
    y, x = np.arange(masks.shape[1], dtype=np.float32), np.arange(masks.shape[2], dtype=np.float32)
    n = np.maximum(area, 1)
    rows, columns = weight.sum(2), weight.sum(1)
    my, mx = rows @ y / n, columns @ x / n
    # A pixel is a square, whose own second moment is a twelfth.
    yy = rows @ y**2 / n - my**2 + 1 / 12
    xx = columns @ x**2 / n - mx**2 + 1 / 12
    xy = np.einsum("by,y->b", weight @ x, y) / n - my * mx
    mean, difference = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    ratio: Floats = np.where(area > 0, np.sqrt(np.maximum(mean - difference, 0) / (mean + difference)), 0)
    return ratio


def _gradient_rms(dev: Floats, masks: Masks, area: npt.NDArray[np.int64]) -> Floats:
    """Return the root mean square gradient inside (B, H, W) masks over the standard deviation there; 0 without one."""
    weight = masks.astype(np.float32)
    n = np.maximum(area, 1)
    down, right = np.zeros_like(dev), np.zeros_like(dev)
    down[:, 1:-1] = (dev[:, 2:] - dev[:, :-2]) / 2
    right[:, :, 1:-1] = (dev[:, :, 2:] - dev[:, :, :-2]) / 2
    energy = np.einsum("bij,bij->b", down**2 + right**2, weight) / n
    mean = np.einsum("bij,bij->b", dev, weight) / n
    variance = np.einsum("bij,bij->b", dev**2, weight) / n - mean**2
    sharpness: Floats = np.sqrt(energy / np.maximum(variance, 1e-6))
    return sharpness


def _border_contact(masks: Masks, inside: Masks) -> Floats:
    """Return the share of the outline of (B, H, W) masks that lies on the border of the crop; 0 without an outline."""
    outline = (masks & _dilate(~masks)).sum((1, 2))
    rim = inside & _dilate(~inside)
    contact: Floats = (masks & rim).sum((1, 2)) / np.maximum(outline, 1)
    return contact
