"""A cell as it was decoded for a model, with what is unusual about it, or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fatescope.data import features, names
from fatescope.data.cell_facts import CellFacts
from fatescope.data.crops import Pixels, center, cut, pixel_hash
from fatescope.data.images import Header
from fatescope.errors import ImageError
from fatescope.inference.bundle import Spec
from fatescope.inference.classification import wrong_bit_depth
from service.inference import thumbnails
from service.inference.results import DetailsDict, WarningDict


@dataclass(frozen=True)
class DecodedCell:
    """A cell that the model can classify."""

    file: str
    page: int | None
    """Page of a file with several, from 0."""
    object: int | None
    """The instrument's number for the cell, if the file name or a native file has one."""
    pixels: npt.NDArray[np.uint16]
    """(H, W) on the canvas, or (C, H, W) for a model of several channels."""
    native: Pixels
    """(height, width) as in the file, or (C, height, width)."""
    bit_depth: int
    size: tuple[int, int]
    """Native height and width, px."""
    warnings: list[WarningDict]
    details: DetailsDict
    """Empty unless details were requested."""
    facts: CellFacts | None = None
    """What its file says of the acquisition, where it says anything."""


@dataclass(frozen=True)
class FailedCell:
    """A file, or a page of one, that cannot be classified."""

    file: str
    page: int | None
    object: int | None
    error: ImageError


def no_object(name: str) -> FailedCell:
    """Return why a native file has no cells."""
    return FailedCell(name, None, None, ImageError("empty", f"{name}: holds no object; save it again"))


class TooManyCells(Exception):  # noqa: N818  not an error of the file
    """A request has more cells than it may have."""


def build_cell(
    page: tuple[Header, Pixels] | ImageError,
    spec: Spec,
    name: str,
    index: int | None,
    number: int | None,
    *,
    details: bool,
    facts: CellFacts | None = None,
) -> DecodedCell | FailedCell:
    """Return the cell of a page, whose `facts` its header says where they are not given."""
    if isinstance(page, ImageError):
        return FailedCell(name, index, number, page)
    header, pixels = page
    if header.bit_depth not in spec.bit_depths:
        return FailedCell(name, index, number, wrong_bit_depth(header, spec, name))
    return DecodedCell(
        file=name,
        page=index,
        object=number,
        pixels=center(cut(pixels, spec.canvas), spec.canvas, name),
        native=pixels,
        bit_depth=header.bit_depth,
        size=(header.height, header.width),
        warnings=find_unusual(header, spec),
        details=describe(header, pixels, spec) if details else {},
        facts=facts or (CellFacts.of_export(header.facts) if header.facts else None),
    )


def describe(header: Header, pixels: Pixels, spec: Spec) -> DetailsDict:
    """Return the details of a cell that a request may ask for: pictures of its channels, features, and its size."""
    figures = features.acquisition(pixels[None], header.bit_depth)[0].tolist()
    sizes = float(header.height), float(header.width)
    # As text: numbers in JavaScript have 53 bits.
    digest = str(pixel_hash(pixels))
    if pixels.ndim == 2:
        return {"image_hash": digest, "thumbnail": thumbnails.thumbnail(pixels), "figures": [*figures, *sizes]}
    by_channel = {name: thumbnails.thumbnail(channel) for name, channel in zip(spec.inputs, pixels, strict=True)}
    return {
        "image_hash": digest,
        "thumbnail": by_channel[spec.inputs[0]],
        "thumbnails": by_channel,
        "figures": [*figures, *sizes],
    }


def find_unusual(header: Header, spec: Spec) -> list[WarningDict]:
    """Return in what the image of a cell is unlike those that the model was trained on."""
    warnings: list[WarningDict] = []
    if header.format == "JPEG":
        message = "JPEG compression loses the fine structure of a cell; export TIFF, PNG or BMP"
        warnings.append({"code": "lossy", "message": message})
    sides = (("height", header.height, spec.height_px), ("width", header.width, spec.width_px))
    for side, value, (low, high) in sides:
        if not low <= value <= high:
            message = f"{side} of {value} px, but the model was trained on {low} to {high} px"
            warnings.append({"code": "size", "message": message})
    if header.height > spec.canvas[0] or header.width > spec.canvas[1]:
        message = (
            f"larger than the canvas of {spec.canvas[0]}x{spec.canvas[1]} px (height x width): the rim was cut off"
        )
        warnings.append({"code": "cut", "message": message})
    return warnings


def find_other_channels(channels: Sequence[int], spec: Spec) -> list[WarningDict]:
    """Return which `channels` of a native file, where its lamps were, are not those that the model was trained on."""
    return [
        {
            "code": "channel",
            "message": f"read in channel {channel}, where the brightfield lamp was, but the model was trained on "
            f"channel {name}; another lamp or another camera may look different",
        }
        for channel, name in names.other_channels(channels, spec.inputs)
    ]
