"""A table of cells that is read a part at a time, so that memory does not grow with the number of cells."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.errors import DataError

PART = 16_384
"""Rows that are read at a time."""
Rows = npt.NDArray[np.int64]


class TableParts(Protocol):
    """A table that can be read as often as needed."""

    @property
    def columns(self) -> list[str]:
        """Return the names of its columns."""
        ...

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Yield the rows in order, PART at most at a time; all columns by default."""
        ...


@dataclass(frozen=True)
class FrameParts:
    """A table in memory."""

    frame: pd.DataFrame

    @property
    def columns(self) -> list[str]:
        """Return the names of its columns."""
        return [str(name) for name in self.frame.columns]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.frame)

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Yield the rows in order, PART at most at a time; all columns by default."""
        chosen = self.frame if columns is None else self.frame[list(columns)]
        for start in range(0, len(chosen), PART):
            yield chosen.iloc[start : start + PART]


@dataclass(frozen=True)
class FileParts:
    """The table in a Parquet file; raises DataError where there is none."""

    path: Path

    @cached_property
    def _metadata(self) -> pq.FileMetaData:
        try:
            return pq.read_metadata(self.path)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{self.path}: not a table of cells ({error}); run the ingest stage") from error

    @property
    def columns(self) -> list[str]:
        """Return the names of its columns."""
        return list(self._metadata.schema.to_arrow_schema().names)

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._metadata.num_rows)

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Yield the rows in order, PART at most at a time; all columns by default."""
        for batch in self.batches(columns):
            yield batch.to_pandas()

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the same without conversion."""
        with pq.ParquetFile(self.path, metadata=self._metadata, pre_buffer=False) as file:
            yield from file.iter_batches(PART, columns=None if columns is None else list(columns), use_threads=False)


def read_columns(path: Path, columns: Sequence[str], plain: Collection[str] = ()) -> pd.DataFrame:
    """Return some columns of the Parquet file `path`; text is categories, in ascending order, but for those in `plain`.

    Raises FileNotFoundError or ArrowInvalid where it is no such file, and KeyError where it lacks a column.
    """
    schema, found = pq.read_schema(path), dict[str, "pd.Series[Any]"]()
    for name in columns:
        kind = schema.field(name).type
        text = name not in plain and (pa.types.is_string(kind) or pa.types.is_large_string(kind))
        # One at a time, which takes least memory.
        table = pq.read_table(path, columns=[name], read_dictionary=[name] if text else None, use_threads=False)
        # What pandas wrote beside the columns would turn categories into text.
        found[name] = table.replace_schema_metadata(None).to_pandas()[name]
        if text:
            found[name] = found[name].cat.set_categories(sorted(found[name].cat.categories))
    return pd.DataFrame(found, index=pd.RangeIndex(pq.read_metadata(path).num_rows))


def take(table: TableParts, rows: Rows, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the (n,) `rows` of a table, in their order, with the index that the whole table would have."""
    found = list(take_in_order(table, np.unique(rows), columns))
    kept = [part for part in found if len(part)] or found[:1]
    return pd.concat(kept).loc[rows]


def take_in_order(table: TableParts, rows: Rows, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
    """Yield the (n,) ascending `rows` of a table, those of one part of it at a time, which may be none, as `take`."""
    start = 0
    for part in table.read(columns):
        first, last = np.searchsorted(rows, [start, start + len(part)])
        yield part.iloc[rows[first:last] - start].set_axis(rows[first:last])
        start += len(part)


def sample_rows(count: int, size: int, seed: int) -> Rows:
    """Return `size` of `count` rows in ascending order, drawn without replacement as the seed decides."""
    if size >= count:
        return np.arange(count)
    chosen: Rows = np.sort(np.random.default_rng(seed).choice(count, size, replace=False, shuffle=False))
    return chosen
