"""The quality of every cell on disk: features, and why it is outside the gates.

`quality.parquet`: one row per cell in the order of the manifest; columns `cell_id`, the features of
`cell_quality.QUALITY`, `outside` (whether the cell is outside a gate) and one column for each of
`quality_gate.REASONS`. The metadata of the file has under `gate` the limits, as JSON (`quality_gate.QualityGate`).
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.data.cell_quality import QUALITY
from fatescope.data.quality_gate import REASONS, QualityGate
from fatescope.errors import DataError

_METADATA_KEY = b"gate"


@dataclass(frozen=True)
class CellQuality:
    """The features of all cells, the gate, and which cells are outside it."""

    table: pd.DataFrame
    """Columns as in the file."""
    gate: QualityGate

    @classmethod
    def of(cls, cell_ids: "pd.Series[str]", features: npt.NDArray[np.floating], gate: QualityGate) -> "CellQuality":
        """Return the quality of N cells with (N, len(QUALITY)) `features`."""
        outside = gate.outside(features)
        table = pd.DataFrame({"cell_id": cell_ids.to_numpy()}).assign(**dict(zip(QUALITY, features.T, strict=True)))
        table = table.assign(outside=np.asarray(outside.any(1)), **dict(zip(REASONS, outside.T, strict=True)))
        return cls(table, gate)

    @property
    def outside(self) -> npt.NDArray[np.bool_]:
        """(N,) Which cells are outside the gate, for whatever reason."""
        return self.table["outside"].to_numpy(bool)

    def save(self, path: Path) -> None:
        """Write the Parquet file `path`."""
        with QualityWriter(path, self.gate) as writer:
            writer.append(self.table)

    @classmethod
    def load(cls, path: Path, columns: list[str] | None = None) -> "CellQuality":
        """Read the file that `save` wrote, or some of its columns; raises DataError where it is missing or another."""
        try:
            table = pq.read_table(path, columns=columns)
            return cls(table.to_pandas(), QualityGate.model_validate_json(table.schema.metadata[_METADATA_KEY]))
        except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: holds no quality of cells ({error!r}); run the quality stage") from error


class QualityWriter:
    """Write the file of `CellQuality` a part at a time."""

    def __init__(self, path: Path, gate: QualityGate) -> None:
        self._path, self._gate = path, gate
        self._writer: pq.ParquetWriter | None = None

    def append(self, rows: pd.DataFrame) -> None:
        """Write rows of `CellQuality.table`."""
        table = pa.Table.from_pandas(rows, preserve_index=False)
        metadata = {**(table.schema.metadata or {}), _METADATA_KEY: self._gate.model_dump_json().encode()}
        table = table.replace_schema_metadata(metadata)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
