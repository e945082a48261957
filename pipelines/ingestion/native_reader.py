"""Read objects of native files into cells, with the facts of their acquisition as columns of the manifest."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fatescope.data.images import Pixels
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
}
"""Column → its type. Missing for cells of other files. Those without a channel in their name are of the brightfield."""

Refusal = tuple[str, str, str]


@dataclass(frozen=True)
class Cells:
    """Objects of a range that are cells, and those that are refused."""

    crops: list[Pixels]
    columns: dict[str, Any]
    """Of the manifest, without features; empty where there are no cells."""
    native: dict[str, pa.Array]
    """The COLUMNS."""
    refused: list[Refusal]
    lost: int
    """Objects for which the last reason in `refused` stands, beside the one that it is listed for."""


def read_range(job: ObjectRange, source: Path, canvas: tuple[int, int], max_pixels: int) -> Cells:
    """Read the objects of a range that are wanted; one that does not fit the `canvas` (height, width) is refused."""
    path, wanted = job.cells.path, job.wanted
    if job.problem:
        return Cells([], {}, {}, [(path, "truncated", job.problem)], max(0, wanted - 1))
    found, labels, refused = list[NativeObject](), list[str](), list[Refusal]()
    try:
        with (source / path).open("rb", buffering=0) as raw:
            file = NativeFile(raw, path)
            for offset, number, code in zip(*(x.tolist() for x in (job.offsets, job.numbers, job.codes)), strict=True):
                if code == NOT_A_CELL:
                    continue
                cell = file.read(Place(0, number, offset), [job.cells.channel], max_pixels)
                if isinstance(cell, NativeObject) and (cell.facts.height > canvas[0] or cell.facts.width > canvas[1]):
                    cell = _too_large(path, cell.facts, canvas)
                if isinstance(cell, ImageError):
                    refused.append((f"{path}#{number}", cell.code, str(cell)))
                else:
                    found.append(cell)
                    labels.append(job.cells.labels[code])
        crops = [cell.images[0] for cell in found]
        columns = _describe(job.cells, labels, found) if found else {}
        return Cells(crops, columns, _describe_acquisition(job.cells, found, file.acquisition), refused, 0)
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
    cells: NativeCells, found: list[NativeObject], acquisition: Acquisition
) -> dict[str, pa.Array]:
    """Return the COLUMNS of objects."""
    facts, at = [cell.facts for cell in found], acquisition.channels.index(cells.channel)
    means = {
        channel: [_at(fact.background_mean, i) for fact in facts] for i, channel in enumerate(acquisition.channels)
    }
    native: dict[str, list[Any]] = {
        "native_run": [acquisition.run or None] * len(facts),
        "native_object": [fact.object for fact in facts],
        "native_acquired_object": [fact.acquired_object for fact in facts],
        "native_camera_line": [fact.camera_line for fact in facts],
        "native_camera_timer": [fact.camera_timer for fact in facts],
        "native_flow_speed": [fact.flow_speed for fact in facts],
        "native_date": [fact.date or None for fact in facts],
        "native_instrument": [acquisition.instrument or None] * len(facts),
        "native_software": [acquisition.software or None] * len(facts),
        "native_magnification": [acquisition.magnification] * len(facts),
        "native_brightfield_power_w": [acquisition.brightfield.get(cells.channel)] * len(facts),
        "native_background_mean": means[cells.channel],
        "native_background_sd": [_at(fact.background_sd, at) for fact in facts],
        "native_saturated": [_at(fact.saturated, at) for fact in facts],
        **{f"native_background_mean_{channel}": column for channel, column in means.items()},
    }
    return typed(native, len(facts))


def _describe(cells: NativeCells, labels: list[str], found: list[NativeObject]) -> dict[str, Any]:
    """Return the columns that cells of all kinds have, without features."""
    facts = [cell.facts for cell in found]
    numbered = {"object": [str(fact.object) for fact in facts]} if "object" in cells.facts else {}
    return {
        **{name: [value] * len(facts) for name, value in cells.facts.items()},
        **numbered,
        "cell_id": [f"{cells.path}#{fact.object}" for fact in facts],
        "label": labels,
        "group": [cells.group] * len(facts),
        "path": [cells.path] * len(facts),
        # Of the object, because a file of gigabytes would be read for it once more.
        "sha256": [hashlib.sha256(cell.images.data).hexdigest() for cell in found],
        "page": [fact.object for fact in facts],
        "height": [fact.height for fact in facts],
        "width": [fact.width for fact in facts],
        "bit_depth": [BIT_DEPTH] * len(facts),
    }


def typed(columns: dict[str, list[Any]], rows: int) -> dict[str, pa.Array]:
    """Return the COLUMNS with their types: those of a first chunk without any value would not fit others without."""
    return {
        name: pa.array(columns[name], kind) if name in columns else pa.nulls(rows, kind)
        for name, kind in COLUMNS.items()
    }


def _at(values: tuple[float, ...], index: int) -> float | None:
    return values[index] if index < len(values) else None
