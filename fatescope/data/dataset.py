"""The dataset of cells on disk: a manifest of one row per cell, and memory-mapped pixels in the same order.

`manifest.parquet` columns: `cell_id` (path, with `#page` where a file has several pages, or `#object` for an object of
a native file), `label` (class name), `group`, every named group of `dataset.pattern`, `path` (relative to the data
folder), `sha256` (of the file; of the pixels of such an object), `page` (or object number), `height`, `width` (native,
px), `bit_depth`, `pixel_hash` (equal for equal pixels), and the features of `features.ACQUISITION`. Where there are
native files, or images that IDEAS exported of them, `native_…` has what they say of the acquisition, and what follows
from their masks, see `pipelines.ingestion.native_reader.COLUMNS`.
`pixels.npy`: (N, C, H, W) uint16, without the axis of channels where there is one channel; each cell centred on a
common canvas and padded with its own background level.
`quarantine.parquet` columns: `path`, `code`, `reason`.
`summary.json`: see `pipelines.ingestion.summary.Summary`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope import plural
from fatescope.config.names import BRIGHTFIELD, ChannelKind
from fatescope.data import table_parts
from fatescope.data.table_parts import FileParts, FrameParts, TableParts
from fatescope.errors import DataError

MANIFEST, PIXELS, QUARANTINE, SUMMARY = "manifest.parquet", "pixels.npy", "quarantine.parquet", "summary.json"
IDENTITIES = ("cell_id", "path", "sha256", "object")
"""Columns of text with another value in nearly every row; others have few values, and are read as categories."""


@dataclass(frozen=True)
class CellDataset:
    """Cells on disk; `pixels[i]` belongs to row i of `manifest`."""

    manifest: pd.DataFrame
    pixels: npt.NDArray[np.uint16]
    """(N, C, H, W), or (N, H, W) where there is one channel."""
    channels: dict[str, ChannelKind] = field(default_factory=dict)
    """Channel → kind, in the order of `pixels`; empty where paths name no channel: one brightfield image."""
    stored: Path | None = None
    """The file of the whole manifest, where `manifest` has some of its columns."""

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.pixels)

    @property
    def table(self) -> TableParts:
        """Return the whole manifest, to be read a part at a time."""
        return FrameParts(self.manifest) if self.stored is None else FileParts(self.stored)

    def take(self, rows: npt.NDArray[np.int64], columns: list[str] | None = None) -> pd.DataFrame:
        """Return the (n,) `rows` of the manifest with `columns`, by default all; those that are on disk are read."""
        if self.stored is None or (columns is not None and set(columns) <= set(self.manifest.columns)):
            chosen = self.manifest if columns is None else self.manifest[columns]
            return chosen.iloc[rows]
        return table_parts.take(self.table, rows, columns)

    @property
    def canvas(self) -> tuple[int, int]:
        """Return height and width in px of the canvas of every cell."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    @property
    def kinds(self) -> tuple[ChannelKind, ...]:
        """Return the kind of each channel."""
        return tuple(self.channels.values()) or (BRIGHTFIELD,)


def load(folder: Path, columns: list[str] | None = None) -> CellDataset:
    """Open the cells in `folder`; the pixels stay on disk until they are indexed.

    With `columns`, the manifest has no others, and text in them is categories, in ascending order, but for IDENTITIES:
    a byte or two a cell. `CellDataset.take` and `CellDataset.table` then read what else is needed.
    Raises DataError where the folder does not hold cells of one ingest.
    """
    try:
        path = folder / MANIFEST
        some = None if columns is None else table_parts.read_columns(path, columns, plain=IDENTITIES)
        manifest = pd.read_parquet(path) if some is None else some
        # Mode r, because a version-controlled output may be linked read-only.
        pixels = np.load(folder / PIXELS, mmap_mode="r")
    except FileNotFoundError as error:
        raise DataError(f"{folder}: has no dataset of cells ({error}); run the ingest stage") from error
    if len(manifest) != len(pixels):
        rows, images = plural.count(len(manifest), "row"), plural.count(len(pixels), "image")
        raise DataError(f"{folder}: {rows} but {images}, not of one run; run the ingest stage again")
    stored = None if columns is None else folder / MANIFEST
    source = CellDataset(manifest, pixels, _read_channels(folder), stored)
    if len(source.kinds) != (pixels.shape[1] if pixels.ndim == 4 else 1):
        raise DataError(
            f"{folder}: pixels of shape {pixels.shape} for channels {source.channels}, not of one run; "
            "run the ingest stage again"
        )
    return source


def _read_channels(folder: Path) -> dict[str, ChannelKind]:
    """Return channel → kind; cells of earlier versions, which do not say it, have one brightfield image."""
    summary = load_summary(folder) if (folder / SUMMARY).exists() else {}
    channels: dict[str, ChannelKind] = summary.get("channels") or {}  # type: ignore[assignment]  # as ingest wrote it
    return channels


def crop(pixels: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Return the native crop (…, height, width) from (…, H, W) pixels of the canvas on which it is centred."""
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width]


def class_indices(labels: "pd.Series[Any]", classes: list[str]) -> npt.NDArray[np.int64]:
    """Return the (n,) indices of labels in `classes`; -1 for those of other classes."""
    indices: npt.NDArray[np.int64] = pd.Index(classes).get_indexer(pd.Index(labels)).astype(np.int64)
    return indices


def load_summary(folder: Path) -> dict[str, object]:
    """Return the summary that the stage ingest wrote for the cells in `folder`."""
    summary: dict[str, object] = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    return summary


def imported_groups(folder: Path) -> list[str]:
    """Return the acquisition groups in the order in which they were imported, as far as that is known."""
    origin = load_summary(folder).get("origin")
    return [str(group) for group in origin.get("groups", [])] if isinstance(origin, dict) else []


def read_quarantine(path: Path, codes: Iterable[str]) -> list[str]:
    """Return up to three reasons for each of `codes` from the quarantine table at `path`."""
    table = pd.read_parquet(path)
    return [reason for code in codes for reason in table.loc[table["code"] == code, "reason"].head(3)]


class TableWriter:
    """Write rows to a Parquet file as they come, with `schema` or, without one, that of the first rows."""

    ROW_GROUP = 2048
    """Rows that are collected before they are written, because small row groups cost more than their rows."""

    def __init__(self, path: Path, schema: pa.Schema | None = None) -> None:
        self._path, self._schema = path, schema
        self._writer: pq.ParquetWriter | None = pq.ParquetWriter(path, schema) if schema is not None else None
        self._buffer: list[pa.Table] = []

    def append(self, columns: dict[str, object]) -> None:
        """Add rows, given as columns of equal length."""
        self._buffer.append(pa.table(columns, schema=self._schema))
        self._schema = self._buffer[-1].schema
        if sum(map(len, self._buffer)) >= self.ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._path, self._schema)
            self._writer.write_table(pa.concat_tables(self._buffer))
            self._buffer = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()


class PixelWriter:
    """Write blocks of uint16 pixels to an `.npy` file whose length is not known beforehand."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        """Open `path` for cells of a `shape`, (H, W) or (C, H, W)."""
        self._file = path.open("wb")
        self._shape = shape
        self.count = 0
        self._write_header()

    def append(self, pixels: npt.NDArray[np.uint16]) -> None:
        """Write a block of B cells."""
        assert pixels.shape[1:] == self._shape, pixels.shape
        self._file.write(np.ascontiguousarray(pixels, np.uint16).data)
        self.count += len(pixels)

    def _write_header(self) -> None:
        # NumPy pads the header so that the first axis can grow in place (NEP 1; GROWTH_AXIS_MAX_DIGITS).
        shape = (self.count, *self._shape)
        header = {"descr": "<u2", "fortran_order": False, "shape": shape}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._write_header()
        self._file.close()
