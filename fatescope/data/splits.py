"""Which cells are for training, validation and test, by each scheme of splitting.

`splits.parquet`: one row per cell in the order of the manifest; columns `cell_id`, `label`, and one for each of
`SCHEMES` with a value of `SPLITS`, or null where a cell belongs to no split of that scheme. The metadata of the file
has under `confounded` a JSON object: class → why the scheme `grouped` cannot split it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.data import table_parts
from fatescope.errors import DataError, SplitError

SCHEMES = ("random", "grouped")
"""`random` splits cells; `grouped` has no acquisition group in two splits."""
SPLITS = ("train", "validation", "test")
_METADATA_KEY = b"confounded"


@dataclass(frozen=True)
class Splits:
    """The split of every cell in both schemes, and the classes that are confounded with their groups."""

    table: pd.DataFrame
    """Columns `label`, `random` and `grouped`; `cell_id` too where they are to be saved."""
    confounded: dict[str, str]
    """Class → why the scheme `grouped` cannot split it."""

    def confounded_in(self, classes: list[str]) -> dict[str, str]:
        """Return those of `classes` that the scheme `grouped` cannot split, with the reason."""
        return {name: self.confounded[name] for name in classes if name in self.confounded}

    def available(self, classes: list[str]) -> list[str]:
        """Return the schemes by which a model of `classes` can be tested, the more reliable first."""
        return ["random"] if self.confounded_in(classes) else ["grouped", "random"]

    def indices(self, scheme: str, split: str, classes: list[str]) -> npt.NDArray[np.int64]:
        """Return the rows of `split` by `scheme` whose label is one of `classes`, in the order of the manifest.

        Raises SplitError where one of `classes` has no cell there.
        """
        chosen = (self.table[scheme] == split) & self.table["label"].isin(classes)
        missing = sorted(set(classes) - set(self.table.loc[chosen, "label"].unique()))
        if missing:
            reasons = {name: self.confounded.get(name, "too few cells") for name in missing}
            raise SplitError(
                f"scheme '{scheme}' has no {split} cells of {reasons}; add cells or leave the class out of the task"
            )
        return np.flatnonzero(chosen.to_numpy())


def save(splits: Splits, path: Path) -> None:
    """Write `splits` to the Parquet file `path`."""
    save_parts([splits.table], splits.confounded, path)


def save_parts(tables: Iterable[pd.DataFrame], confounded: dict[str, str], path: Path) -> None:
    """Write the rows of `Splits.table`, a part at a time, to the Parquet file `path`."""
    writer: pq.ParquetWriter | None = None
    for rows in tables:
        table = pa.Table.from_pandas(rows, preserve_index=False)
        if writer is None:
            # A part without any split of a scheme has no type of its own for it.
            schema = pa.schema([_typed(field) for field in table.schema], table.schema.metadata)
            metadata = {**(schema.metadata or {}), _METADATA_KEY: json.dumps(confounded).encode()}
            schema = schema.with_metadata(metadata)
            writer = pq.ParquetWriter(path, schema)
        writer.write_table(table.cast(schema))
    if writer is not None:
        writer.close()


def _typed(field: pa.Field) -> pa.Field:
    return field.with_type(pa.string()) if field.name in SCHEMES else field


def load(path: Path) -> Splits:
    """Read the Parquet file that `save` wrote; text is categories, and cell ids stay on disk.

    Raises DataError where it is missing or another file.
    """
    try:
        confounded: dict[str, str] = json.loads(pq.read_schema(path).metadata[_METADATA_KEY])
        table = table_parts.read_columns(path, ["label", *SCHEMES])
    except (FileNotFoundError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: holds no splits ({error!r}); run the split stage") from error
    return Splits(table, confounded)
