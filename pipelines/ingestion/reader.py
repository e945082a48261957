"""Read exported files and objects of native files into cells, a chunk of them at a time."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fatescope.config import Dataset
from fatescope.data import features, images
from fatescope.data.images import Header, Pixels
from fatescope.data.native.reader import BIT_DEPTH
from fatescope.data.paths import ParsedPath, PathParser
from fatescope.data.sidecar import Labels
from fatescope.errors import ImageError
from pipelines.ingestion.files import UNREADABLE, Job, Refusal
from pipelines.ingestion.native_ranges import ObjectRange
from pipelines.ingestion.native_reader import read_range, typed

Row = dict[str, object]
"""A cell in the manifest, without its features."""
_WITHOUT_CELLS = ("cell_id", "label", "group", "sha256", "pixel_hash")
"""Columns of a chunk in which every file was refused."""


@dataclass(frozen=True)
class Chunk:
    """The cells of a list of files."""

    columns: dict[str, Any]
    """Of the manifest."""
    pixels: npt.NDArray[np.uint16]
    """(B, H, W) on the canvas."""
    refused: list[Refusal]
    files: int
    """Files and objects that were to be read."""
    lost: int = 0
    """Objects for which the last reason in `refused` stands, beside the one that it is listed for."""

    def identities(self) -> Iterable[tuple[object, object]]:
        """Return `cell_id` and the hash of the file for every cell."""
        return zip(self.columns["cell_id"], self.columns["sha256"], strict=True)


@dataclass(frozen=True)
class Reader:
    """Reads files below `source`; can be sent to other processes."""

    dataset: Dataset
    canvas: tuple[int, int]
    """Height and width, px."""
    max_pixels: int
    """An image that announces more is refused before it is decoded."""
    source: Path
    labels: Labels
    """What sidecars say of images."""
    native: bool = False
    """Whether there are native files, whose facts then have columns."""

    def read(self, job: Job) -> Chunk:
        """Decode the files or objects of a job, and describe the cells in them."""
        return self._read_objects(job) if isinstance(job, ObjectRange) else self._read_files(job)

    def refuse(self, job: Job) -> Chunk:
        """Return the chunk of a job that cannot be read because it ends the process that reads it."""
        reason = "reading it ended the process, through a damaged file or for want of memory; copy or save it again"
        paths, lost = (job, 0) if isinstance(job, list) else ([job.cells.path], job.wanted - 1)
        refused = [(path, UNREADABLE, f"{path}: {reason}") for path in paths]
        return Chunk(
            {name: [] for name in _WITHOUT_CELLS},
            np.empty((0, *self.canvas), np.uint16),
            refused,
            len(paths) + lost,
            lost,
        )

    def _read_objects(self, job: ObjectRange) -> Chunk:
        """Decode the objects of a native file that are wanted."""
        cells = read_range(job, self.source, self.canvas, self.max_pixels)
        files = len(cells.crops) + len(cells.refused) + cells.lost
        placed = np.empty((len(cells.crops), *self.canvas), np.uint16)
        table = np.empty((len(cells.crops), len(features.ACQUISITION)), np.float32)
        for indices in _alike([(crop.shape,) for crop in cells.crops]).values():
            crops = np.stack([cells.crops[i] for i in indices])
            placed[indices] = images.center_alike(crops, self.canvas)
            table[indices] = features.acquisition(crops, BIT_DEPTH)
        columns = cells.columns or {name: [] for name in _WITHOUT_CELLS}
        columns |= {"pixel_hash": [_pixel_hash(crop) for crop in cells.crops], **_feature_columns(table)}
        return Chunk(columns | cells.native, placed, cells.refused, files, cells.lost)

    def _read_files(self, paths: list[str]) -> Chunk:
        """Decode the files at `paths`, which match the pattern."""
        parser = PathParser(self.dataset, self.labels)
        rows: list[Row] = []
        crops: list[Pixels] = []
        placed: list[npt.NDArray[np.uint16]] = []
        refused: list[Refusal] = []
        for path in paths:
            try:
                raw = (self.source / path).read_bytes()
                pages = images.decode(raw, path, self.max_pixels)
                on_canvas = [images.center(pixels, self.canvas, path) for _, pixels in pages]
            except ImageError as error:
                refused.append((path, error.code, str(error)))
                continue
            except OSError as error:
                refused.append((path, UNREADABLE, f"{path}: cannot be read: {error.strerror}"))
                continue
            parsed = parser.read(path)
            assert parsed is not None
            rows += _describe(path, parsed, hashlib.sha256(raw).hexdigest(), pages)
            crops += [pixels for _, pixels in pages]
            placed += on_canvas
        columns: dict[str, Any] = {name: [row[name] for row in rows] for name in (rows[0] if rows else _WITHOUT_CELLS)}
        pixels = np.stack(placed) if placed else np.empty((0, *self.canvas), np.uint16)
        columns |= _features(crops, rows) | (typed({}, len(rows)) if self.native else {})
        return Chunk(columns, pixels, refused, len(paths))


def _describe(path: str, parsed: ParsedPath, sha256: str, pages: list[tuple[Header, Pixels]]) -> list[Row]:
    """Return the row of each page of a file."""
    return [
        {
            **parsed.facts,
            "cell_id": f"{path}#{page}" if len(pages) > 1 else path,
            "label": parsed.label,
            "group": parsed.group,
            "path": path,
            "sha256": sha256,
            "page": page,
            "height": header.height,
            "width": header.width,
            "bit_depth": header.bit_depth,
            "pixel_hash": _pixel_hash(pixels),
        }
        for page, (header, pixels) in enumerate(pages)
    ]


def _pixel_hash(pixels: Pixels) -> int:
    """Return 64 bits that are equal for equal pixels, whatever the file around them holds."""
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8, key=str(pixels.shape).encode())
    return int.from_bytes(digest.digest(), "little", signed=True)


def _features(crops: list[Pixels], rows: list[Row]) -> dict[str, list[object]]:
    """Return the columns of `features.acquisition`, computed for all crops of one shape and bit depth at once."""
    table = np.empty((len(crops), len(features.ACQUISITION)), np.float32)
    kinds = [(crop.shape, crop.dtype, row["bit_depth"]) for crop, row in zip(crops, rows, strict=True)]
    for (_, _, bit_depth), indices in _alike(kinds).items():
        table[indices] = features.acquisition(np.stack([crops[i] for i in indices]), int(str(bit_depth)))
    return _feature_columns(table)


def _feature_columns(table: npt.NDArray[np.float32]) -> dict[str, list[object]]:
    return {name: list(table[:, i]) for i, name in enumerate(features.ACQUISITION)}


def _alike(kinds: Iterable[tuple[object, ...]]) -> dict[tuple[object, ...], list[int]]:
    """Return the indices of crops of each kind."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, kind in enumerate(kinds):
        alike.setdefault(kind, []).append(i)
    return alike
