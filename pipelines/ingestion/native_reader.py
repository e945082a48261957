"""Read objects of native files into cells, with the facts of their acquisition as columns of the manifest."""

import hashlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from fatescope.data.images import Pixels
from fatescope.data.native.acquisition import MAX_CHANNELS, Acquisition
from fatescope.data.native.reader import BIT_DEPTH, NativeFile, NativeObject, ObjectFacts
from fatescope.errors import ImageError
from pipelines.ingestion.native import NOT_A_CELL, NativeCells, ObjectRange

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
class NativeCell:
    """An object that is a cell."""

    row: dict[str, object]
    """Of the manifest, without features."""
    pixels: Pixels
    """(H, W)"""


def read_range(
    job: ObjectRange, source: Path, canvas: tuple[int, int], max_pixels: int
) -> tuple[list[NativeCell], list[Refusal], int]:
    """Return the cells of a range, path, code and reason of each that is refused, and how many more are lost.

    An object that does not fit the `canvas` (height, width) is refused.
    """
    path, wanted = job.cells.path, int((job.codes != NOT_A_CELL).sum())
    if job.start is None:
        return [], [(path, "truncated", job.problem)], max(0, wanted - 1)
    cells, refused = list[NativeCell](), list[Refusal]()
    try:
        with (source / path).open("rb", buffering=0) as raw:
            file = NativeFile(raw, path)
            places = islice(file.places(job.start), len(job.codes))
            for place, code in zip(places, job.codes.tolist(), strict=True):
                if code == NOT_A_CELL:
                    continue
                found = file.read(place, [job.cells.channel], max_pixels)
                if isinstance(found, NativeObject) and (
                    found.facts.height > canvas[0] or found.facts.width > canvas[1]
                ):
                    found = _too_large(path, found.facts, canvas)
                if isinstance(found, ImageError):
                    refused.append((f"{path}#{place.object}", found.code, str(found)))
                else:
                    row = _describe(job.cells, job.cells.labels[code], found, file.acquisition)
                    cells.append(NativeCell(row, found.images[0]))
    except (ImageError, OSError, ValueError) as error:
        # It has changed since its objects were found.
        lost = wanted - len(cells) - len(refused)
        return cells, [*refused, (path, "unreadable", f"{path}: cannot be read any more: {error}")], max(0, lost - 1)
    return cells, refused, 0


def _too_large(path: str, facts: ObjectFacts, canvas: tuple[int, int]) -> ImageError:
    return ImageError(
        "too_large",
        f"{path}#{facts.object}: {facts.height}x{facts.width} px do not fit the canvas of {canvas[0]}x{canvas[1]} px "
        "(height x width); retrain with a larger ingest.canvas",
    )


def _describe(cells: NativeCells, label: str, found: NativeObject, acquisition: Acquisition) -> dict[str, object]:
    """Return the row of an object."""
    facts, at = found.facts, acquisition.channels.index(cells.channel)
    named = {"object": str(facts.object)} if "object" in cells.facts else {}
    means = dict(zip(acquisition.channels, facts.background_mean, strict=False))
    return {
        **cells.facts,
        **named,
        "cell_id": f"{cells.path}#{facts.object}",
        "label": label,
        "group": cells.group,
        "path": cells.path,
        # Of the object, because a file of gigabytes would be read for it once more.
        "sha256": hashlib.sha256(found.images.tobytes()).hexdigest(),
        "page": facts.object,
        "height": facts.height,
        "width": facts.width,
        "bit_depth": BIT_DEPTH,
        "native_run": acquisition.run or None,
        "native_object": facts.object,
        "native_acquired_object": facts.acquired_object,
        "native_camera_line": facts.camera_line,
        "native_camera_timer": facts.camera_timer,
        "native_flow_speed": facts.flow_speed,
        "native_date": facts.date or None,
        "native_instrument": acquisition.instrument or None,
        "native_software": acquisition.software or None,
        "native_magnification": acquisition.magnification,
        "native_brightfield_power_w": acquisition.brightfield.get(cells.channel),
        "native_background_mean": means.get(cells.channel),
        "native_background_sd": _at(facts.background_sd, at),
        "native_saturated": _at(facts.saturated, at),
        **{f"native_background_mean_{channel}": means.get(channel) for channel in range(1, MAX_CHANNELS + 1)},
    }


def _at(values: tuple[float, ...], index: int) -> float | None:
    return values[index] if index < len(values) else None
