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
from fatescope.data.crops import Pixels, center, center_alike, pixel_hash
from fatescope.data.images import Header
from fatescope.data.native.reader import BIT_DEPTH
from fatescope.data.paths import ParsedPath, PathParser
from fatescope.data.sidecar import Labels
from fatescope.data.tracks import frame_of
from fatescope.errors import DataError, ImageError
from pipelines.ingestion.files import UNREADABLE, CellFiles, Job, Refusal
from pipelines.ingestion.native_ranges import ObjectRange
from pipelines.ingestion.native_reader import describe_exported, read_range, typed

Row = dict[str, object]
"""A cell in the manifest, without its features."""
START_S = 60.0
"""In which a process starts, and a disk answers, at the latest."""
FILE_S = 2.0
"""In which a file, or an object of a native file, is read at the latest: a thousand times what a cell takes."""
BYTES_PER_S = 1e6
"""At which a large file is read at the least."""
_WITHOUT_CELLS = ("cell_id", "label", "group", "sha256", "pixel_hash")
"""Columns of a chunk in which every file was refused."""


@dataclass(frozen=True)
class Chunk:
    """The cells of a list of files."""

    columns: dict[str, Any]
    """Of the manifest."""
    pixels: npt.NDArray[np.uint16]
    """(B, H, W) on the canvas, or (B, C, H, W) of several channels."""
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
    """Whether there are native files, or exports of them that say how they were acquired; then facts have columns."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the pixels of a cell."""
        channels = len(self.dataset.kinds)
        return self.canvas if channels == 1 else (channels, *self.canvas)

    def read(self, job: Job) -> Chunk:
        """Decode the files or objects of a job, and describe the cells in them."""
        return self._read_objects(job) if isinstance(job, ObjectRange) else self._read_files(job)

    def time_limit_s(self, job: Job) -> float:
        """Return the time after which reading a job will not come to an end any more: many times what it takes."""
        if isinstance(job, ObjectRange):
            return START_S + FILE_S * job.wanted
        paths = [path for files in job for path in ((files,) if isinstance(files, str) else files) if path]
        return START_S + FILE_S * len(paths) + sum(map(self._size, paths)) / BYTES_PER_S

    def _size(self, path: str) -> int:
        try:
            return (self.source / path).stat().st_size
        except OSError:
            return 0

    def refuse(self, job: Job, reason: str) -> Chunk:
        """Return the chunk of a job that cannot be read because of what it does to the process that reads it."""
        paths = list(map(_first, job)) if isinstance(job, list) else [job.cells.path]
        lost = 0 if isinstance(job, list) else job.wanted - 1
        refused = [(path, UNREADABLE, f"{path}: {reason}") for path in paths]
        return Chunk(
            {name: [] for name in _WITHOUT_CELLS},
            np.empty((0, *self.shape), np.uint16),
            refused,
            len(paths) + lost,
            lost,
        )

    def _read_objects(self, job: ObjectRange) -> Chunk:
        """Decode the objects of a native file that are wanted."""
        cells = read_range(job, self.source, self.canvas, self.max_pixels)
        files = len(cells.crops) + len(cells.refused) + cells.lost
        placed = np.empty((len(cells.crops), *self.shape), np.uint16)
        table = self._feature_table(len(cells.crops))
        for indices in _alike([(crop.shape,) for crop in cells.crops]).values():
            crops = np.stack([cells.crops[i] for i in indices])
            center_alike(crops, placed, indices)
            table[indices] = features.acquisition(crops, BIT_DEPTH)
        columns = cells.columns or {name: [] for name in _WITHOUT_CELLS}
        columns |= {"pixel_hash": [pixel_hash(crop) for crop in cells.crops], **self._feature_columns(table)}
        return Chunk(columns | cells.native, placed, cells.refused, files, cells.lost)

    def _read_files(self, cells: list[CellFiles]) -> Chunk:
        """Decode the files of `cells`, which match the pattern."""
        parser = PathParser(self.dataset, self.labels)
        rows: list[Row] = []
        crops: list[Pixels] = []
        placed: list[npt.NDArray[np.uint16]] = []
        refused: list[Refusal] = []
        headers: list[Header] = []
        for paths in cells:
            path = _first(paths)
            parsed = parser.read(path)
            assert parsed is not None
            try:
                frame_of(parsed.facts, self.dataset)
                digest, pages = self._read_cells((paths,) if isinstance(paths, str) else paths)
                on_canvas = [center(pixels, self.canvas, path) for _, pixels in pages]
            except ImageError as error:
                refused.append((path, error.code, str(error)))
                continue
            except OSError as error:
                refused.append((path, UNREADABLE, f"{path}: cannot be read: {error.strerror}"))
                continue
            except DataError as error:
                refused.append((path, "time", f"{path}: {error}"))
                continue
            rows += _describe(path, parsed, digest, pages)
            crops += [pixels for _, pixels in pages]
            headers += [header for header, _ in pages]
            placed += on_canvas
        columns: dict[str, Any] = {name: [row[name] for row in rows] for name in (rows[0] if rows else _WITHOUT_CELLS)}
        pixels = np.stack(placed) if placed else np.empty((0, *self.shape), np.uint16)
        columns |= self._features(crops, rows) | (typed(describe_exported(headers), len(rows)) if self.native else {})
        return Chunk(columns, pixels, refused, len(cells))

    def _read_cells(self, paths: tuple[str, ...]) -> tuple[str, list[tuple[Header, Pixels]]]:
        """Return the hash of the files of an object, one a channel, and the pages of them with all channels.

        Raises ImageError, and OSError where one cannot be read.
        """
        if missing := [name for name, path in zip(self.dataset.inputs, paths, strict=False) if not path]:
            raise ImageError(
                "missing_channel",
                f"{_first(paths)}: has no file of channel {missing[0]} beside it; export all of dataset.channels",
            )
        digest, of_channel = hashlib.sha256(), list[list[tuple[Header, Pixels]]]()
        for path in paths:
            raw = (self.source / path).read_bytes()
            digest.update(raw)
            of_channel.append(images.decode(raw, path, self.max_pixels))
        return digest.hexdigest(), images.join_pages(of_channel, self.dataset.inputs, _first(paths))

    def _feature_table(self, cells: int) -> npt.NDArray[np.float32]:
        return np.empty((cells, len(self.dataset.kinds) * len(features.ACQUISITION)), np.float32)

    def _features(self, crops: list[Pixels], rows: list[Row]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the columns of `features.acquisition`, computed for all crops of one shape and bit depth at once."""
        table = self._feature_table(len(crops))
        kinds = [(crop.shape, crop.dtype, row["bit_depth"]) for crop, row in zip(crops, rows, strict=True)]
        for (_, _, bit_depth), indices in _alike(kinds).items():
            table[indices] = features.acquisition(np.stack([crops[i] for i in indices]), int(str(bit_depth)))
        return self._feature_columns(table)

    def _feature_columns(self, table: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        return {name: table[:, i] for i, name in enumerate(features.acquisition_names(self.dataset.inputs))}


def _first(paths: CellFiles) -> str:
    """Return the path by which a cell is called: that of the first channel of which there is a file."""
    return paths if isinstance(paths, str) else next(filter(None, paths))


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
            "pixel_hash": pixel_hash(pixels),
        }
        for page, (header, pixels) in enumerate(pages)
    ]


def _alike(kinds: Iterable[tuple[object, ...]]) -> dict[tuple[object, ...], list[int]]:
    """Return the indices of crops of each kind."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, kind in enumerate(kinds):
        alike.setdefault(kind, []).append(i)
    return alike
