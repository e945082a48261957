"""Read objects of native files into cells, with the facts of their acquisition as columns of the manifest."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fatescope.data.cell_facts import CellFacts, brightfield_channel, tabulate
from fatescope.data.crops import Pixels
from fatescope.data.images import Header, read_headers
from fatescope.data.native.acquisition import MAX_CHANNELS, Acquisition
from fatescope.data.native.objects import NativeObject, ObjectFacts, Place
from fatescope.data.native.reader import BIT_DEPTH, NativeFile
from fatescope.errors import ImageError
from pipelines.ingestion.native_cells import NOT_A_CELL, NativeCells
from pipelines.ingestion.native_ranges import ObjectRange

COLUMNS = {
    "native_run": pa.string(),
    "native_object": pa.int64(),
    "native_acquired_object": pa.int64(),
    "native_camera_line": pa.int64(),
    "native_camera_timer": pa.int64(),
    "native_flow_speed": pa.float64(),
    "native_date": pa.string(),
    "native_instrument": pa.string(),
    "native_software": pa.string(),
    "native_magnification": pa.float64(),
    "native_brightfield_power_w": pa.float64(),
    "native_background_mean": pa.float64(),
    "native_background_sd": pa.float64(),
    "native_saturated": pa.float64(),
    **{f"native_background_mean_{channel}": pa.float64() for channel in range(1, MAX_CHANNELS + 1)},
    "native_background_outside": pa.float64(),  # median of the pixels outside the mask, counts
    "native_mask_area": pa.int64(),  # pixels inside the mask
    "native_mask_spread": pa.float64(),  # standard deviation of the pixels inside the mask, counts
    "native_mask_clipped": pa.bool_(),  # whether the mask says that the object is cut off
}
"""Column → its type. Missing for cells of other files, but for what exports of IDEAS say of themselves. Those without a
channel in their name are of the brightfield. Those that follow from the mask that the instrument drew stand beside the
features and take the place of none: an exported image of the same cell has no mask, and neither has the network."""

_OF_MASK = ("native_background_outside", "native_mask_area", "native_mask_spread", "native_mask_clipped")
WHOLE = 1
"""In a mask, the object; larger values are an object that is cut off at the border."""
Refusal = tuple[str, str, str]


@dataclass(frozen=True)
class Cells:
    """Objects of a range that are cells, and those that are refused."""

    crops: list[Pixels]
    """(H, W), or (C, H, W) of several channels."""
    columns: dict[str, Any]
    """Of the manifest, without features; empty where there are no cells."""
    native: dict[str, pa.Array]
    """The COLUMNS."""
    refused: list[Refusal]
    lost: int
    """Objects for which the last reason in `refused` stands, beside the one that it is listed for."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """An object that was read, described while its pixels are in the cache of the core."""

    facts: ObjectFacts
    images: npt.NDArray[np.uint16]
    """(C, H, W)"""
    sha256: str
    mask: tuple[float | None, int | None, float | None, bool | None]
    """See `describe_mask`."""
    label: str


def read_range(job: ObjectRange, source: Path, canvas: tuple[int, int], max_pixels: int) -> Cells:
    """Read the objects of a range that are wanted; one that does not fit the `canvas` (height, width) is refused."""
    path, wanted = job.cells.path, job.wanted
    if job.problem:
        return Cells([], {}, {}, [(path, "truncated", job.problem)], max(0, wanted - 1))
    found, refused = list[_Cell](), list[Refusal]()
    try:
        with (source / path).open("rb", buffering=0) as raw:
            file = NativeFile(raw, path)
            channel = brightfield_channel(file.acquisition, job.cells.channels)
            described = job.cells.channels.index(channel)
            for offset, number, code in zip(*(x.tolist() for x in (job.offsets, job.numbers, job.codes)), strict=True):
                if code == NOT_A_CELL:
                    continue
                place = Place(0, number, offset)
                cell = file.read(place, job.cells.channels, max_pixels, masks=True)
                if isinstance(cell, ImageError):
                    # A damaged mask costs no cell: the service would answer for it.
                    cell = file.read(place, job.cells.channels, max_pixels)
                if isinstance(cell, NativeObject) and (cell.facts.height > canvas[0] or cell.facts.width > canvas[1]):
                    cell = _too_large(path, cell.facts, canvas)
                if isinstance(cell, ImageError):
                    refused.append((f"{path}#{number}", cell.code, str(cell)))
                else:
                    # Of the object, because a file of gigabytes would be read for its hash once more.
                    digest = hashlib.sha256(cell.images.data).hexdigest()
                    mask = describe_mask(cell, described)
                    found.append(_Cell(cell.facts, cell.images, digest, mask, job.cells.labels[code]))
        several = len(job.cells.channels) > 1
        crops = [cell.images if several else cell.images[0] for cell in found]
        columns = _describe(job.cells, found) if found else {}
        return Cells(crops, columns, _describe_acquisition(job.cells, found, file.acquisition, channel), refused, 0)
    except (ImageError, OSError) as error:
        # It has changed since its objects were found.
        return Cells(
            [], {}, {}, [(path, "unreadable", f"{path}: cannot be read any more: {error}")], max(0, wanted - 1)
        )


def _too_large(path: str, facts: ObjectFacts, canvas: tuple[int, int]) -> ImageError:
    return ImageError(
        "too_large",
        f"{path}#{facts.object}: {facts.height}x{facts.width} px do not fit the canvas of {canvas[0]}x{canvas[1]} px "
        "(height x width); retrain with a larger ingest.canvas",
    )


def _describe_acquisition(
    cells: NativeCells, found: list[_Cell], acquisition: Acquisition, channel: int
) -> dict[str, pa.Array]:
    """Return the COLUMNS of objects, which are described by a `channel`."""
    facts, at = [cell.facts for cell in found], acquisition.channels.index(channel)
    native: dict[str, Any] = {
        "native_run": [acquisition.run or None] * len(facts),
        "native_object": [fact.object for fact in facts],
        "native_acquired_object": [fact.acquired_object for fact in facts],
        "native_camera_line": [fact.camera_line for fact in facts],
        "native_camera_timer": [fact.camera_timer for fact in facts],
        "native_date": [fact.date or None for fact in facts],
        "native_background_sd": [_at(fact.background_sd, at) for fact in facts],
        "native_saturated": [_at(fact.saturated, at) for fact in facts],
        **tabulate([CellFacts.of_object(acquisition, cells.channels, fact) for fact in facts]),
        **{name: [cell.mask[i] for cell in found] for i, name in enumerate(_OF_MASK)},
    }
    return typed(native, len(facts))


def describe_mask(cell: NativeObject, place: int) -> tuple[float | None, int | None, float | None, bool | None]:
    """Return the values of the columns _OF_MASK for the channel at this `place` among those that were read."""
    if cell.masks is None:
        return None, None, None, None
    image, mask = cell.images[place], cell.masks[place]
    inside = mask != 0
    body, background = image[inside], image[~inside]
    return (
        _median(background) if background.size else None,
        body.size,
        _spread(body) if body.size else None,
        bool(mask.max() > WHOLE),
    )


def _median(values: npt.NDArray[np.uint16]) -> float:
    """Return the value of np.median in a third of its time."""
    ordered = np.sort(values)
    return (float(ordered[(values.size - 1) // 2]) + float(ordered[values.size // 2])) / 2


def _spread(values: npt.NDArray[np.uint16]) -> float:
    """Return the value of `values.std(dtype=np.float32)` in half of its time."""
    deviations = values - np.add.reduce(values, dtype=np.float32) / np.float32(values.size)
    deviations *= deviations
    return float(np.sqrt(np.add.reduce(deviations) / np.float32(values.size)))


def _describe(cells: NativeCells, found: list[_Cell]) -> dict[str, Any]:
    """Return the columns that cells of all kinds have, without features."""
    facts = [cell.facts for cell in found]
    numbered = {"object": [str(fact.object) for fact in facts]} if "object" in cells.facts else {}
    return {
        **{name: [value] * len(facts) for name, value in cells.facts.items()},
        **numbered,
        "cell_id": [f"{cells.path}#{fact.object}" for fact in facts],
        "label": [cell.label for cell in found],
        "group": [cells.group] * len(facts),
        "path": [cells.path] * len(facts),
        "sha256": [cell.sha256 for cell in found],
        "page": [fact.object for fact in facts],
        "height": [fact.height for fact in facts],
        "width": [fact.width for fact in facts],
        "bit_depth": [BIT_DEPTH] * len(facts),
    }


def describe_exported(headers: Sequence[Header]) -> dict[str, list[Any]]:
    """Return those of the COLUMNS that images say which IDEAS exported."""
    facts = [header.facts for header in headers]
    columns: dict[str, list[Any]] = {
        "native_run": [fact.run or None if fact else None for fact in facts],
        "native_object": [fact.object if fact else None for fact in facts],
        "native_acquired_object": [fact.acquired_object if fact else None for fact in facts],
        "native_camera_line": [fact.camera_line if fact else None for fact in facts],
        "native_camera_timer": [fact.camera_timer if fact else None for fact in facts],
    }
    return columns | tabulate([CellFacts.of_export(fact) if fact else None for fact in facts])


def carries_facts(source: Path, paths: Sequence[str]) -> bool:
    """Return whether some of the images at `paths` say how they were acquired."""
    for path in paths:
        try:
            if any(header.facts for header in read_headers((source / path).read_bytes(), path)):
                return True
        except (ImageError, OSError):
            continue
    return False


def typed(columns: Mapping[str, Sequence[Any]], rows: int) -> dict[str, pa.Array]:
    """Return the COLUMNS with their types: those of a first chunk without any value would not fit others without."""
    return {
        name: pa.array(columns[name], kind) if name in columns else pa.nulls(rows, kind)
        for name, kind in COLUMNS.items()
    }


def _at(values: tuple[float, ...], index: int) -> float | None:
    return values[index] if index < len(values) else None
