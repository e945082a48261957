"""Which cells are for training, validation and test, by each scheme of splitting.

`splits.parquet`: one row per cell in the order of the manifest; columns `cell_id`, `label`, and one for each of
`SCHEMES` with a value of `SPLITS`, or null where a cell belongs to no split of that scheme. The metadata of the file
has under `confounded` a JSON object: class → why the scheme `grouped` cannot split it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.errors import DataError, SplitError

SCHEMES = ("random", "grouped")
"""`random` splits cells; `grouped` has no acquisition group in two splits."""
SPLITS = ("train", "validation", "test")
_METADATA_KEY = b"confounded"


@dataclass(frozen=True)
class Splits:
    """The split of every cell in both schemes, and the classes that are confounded with their groups."""

    table: pd.DataFrame
    """Columns `cell_id`, `label`, `random`, `grouped`."""
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
        missing = sorted(set(classes) - set(self.table.loc[chosen, "label"]))
        if missing:
            reasons = {name: self.confounded.get(name, "too few cells") for name in missing}
            raise SplitError(
                f"scheme '{scheme}' has no {split} cells of {reasons}; add cells or leave the class out of the task"
            )
        return np.flatnonzero(chosen.to_numpy())


def save(splits: Splits, path: Path) -> None:
    """Write `splits` to the Parquet file `path`."""
    table = pa.Table.from_pandas(splits.table, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), _METADATA_KEY: json.dumps(splits.confounded).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def load(path: Path) -> Splits:
    """Read the Parquet file that `save` wrote; raises DataError where it is missing or another file."""
    try:
        table = pq.read_table(path)
        confounded: dict[str, str] = json.loads(table.schema.metadata[_METADATA_KEY])
    except (FileNotFoundError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: holds no splits ({error!r}); run the split stage") from error
    return Splits(table.to_pandas(), confounded)
