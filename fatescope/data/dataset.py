"""The dataset of cells on disk: a manifest of one row per cell, and memory-mapped pixels in the same order.

`manifest.parquet` columns: `cell_id` (path, with `#page` where a file has several pages, or `#object` for an object of
a native file), `label` (class name), `group`, every named group of `dataset.pattern`, `path` (relative to the data
folder), `sha256` (of the file; of the pixels of such an object), `page` (or object number), `height`, `width` (native,
px), `bit_depth`, `pixel_hash` (equal for equal pixels), and the features of `features.ACQUISITION`. Where there are
native files, `native_…` has what they say of the acquisition, see `pipelines.ingestion.native_reader.COLUMNS`.
`pixels.npy`: (N, H, W) uint16, each cell centred on a common canvas and padded with its own background level.
`quarantine.parquet` columns: `path`, `code`, `reason`.
`summary.json`: see `pipelines.ingestion.summary.Summary`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.errors import DataError

MANIFEST, PIXELS, QUARANTINE, SUMMARY = "manifest.parquet", "pixels.npy", "quarantine.parquet", "summary.json"


@dataclass(frozen=True)
class CellDataset:
    """Cells on disk; `pixels[i]` belongs to row i of `manifest`."""

    manifest: pd.DataFrame
    pixels: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.manifest)

    @property
    def canvas(self) -> tuple[int, int]:
        """Return height and width in px of the canvas of every cell."""
        return self.pixels.shape[1], self.pixels.shape[2]


def load(folder: Path, columns: list[str] | None = None) -> CellDataset:
    """Open the cells in `folder`; the pixels stay on disk until they are indexed.

    Raises DataError where the folder does not hold cells of one ingest.
    """
    try:
        manifest = pd.read_parquet(folder / MANIFEST, columns=columns)
        # Mode r, because a version-controlled output may be linked read-only.
        pixels = np.load(folder / PIXELS, mmap_mode="r")
    except FileNotFoundError as error:
        raise DataError(f"{folder}: has no dataset of cells ({error}); run the ingest stage") from error
    if len(manifest) != len(pixels):
        raise DataError(
            f"{folder}: {len(manifest)} rows but {len(pixels)} images, not of one run; run the ingest stage again"
        )
    return CellDataset(manifest, pixels)


def crop(pixels: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Return the native crop (height, width) from (H, W) pixels of the canvas on which it is centred."""
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


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
    """Write (B, H, W) blocks of uint16 pixels to an `.npy` file whose length is not known beforehand."""

    def __init__(self, path: Path, canvas: tuple[int, int]) -> None:
        self._file = path.open("wb")
        self._canvas = canvas
        self.count = 0
        self._write_header()

    def append(self, pixels: npt.NDArray[np.uint16]) -> None:
        """Write a block of (B, H, W) pixels."""
        assert pixels.shape[1:] == self._canvas, pixels.shape
        self._file.write(np.ascontiguousarray(pixels, np.uint16).data)
        self.count += len(pixels)

    def _write_header(self) -> None:
        # NumPy pads the header so that the first axis can grow in place (NEP 1; GROWTH_AXIS_MAX_DIGITS).
        shape = (self.count, *self._canvas)
        header = {"descr": "<u2", "fortran_order": False, "shape": shape}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._write_header()
        self._file.close()
