"""Which cells train, validate and test.

`splits.parquet`: one row a cell in the order of the manifest; columns `cell_id`, `label`, and one for each of `SPLITS`
with a value of `PARTS`, or null where a cell has no place in that split. Beside it, in the file's own metadata under
`confounded`, a JSON object: class → why it has no grouped split.
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
SPLITS = ("train", "validation", "test")
_MARK = b"confounded"


@dataclass(frozen=True)
class Splits:
    """The parts of both splits, and which classes cannot be told from their groups."""

    table: pd.DataFrame
    """Columns `cell_id`, `label`, `random`, `grouped`."""
    confounded: dict[str, str]
    """Class → why no grouped split exists for it."""

    def confounded_in(self, classes: list[str]) -> dict[str, str]:
        """Return the marks of those of `classes` that have no grouped split."""
        return {name: self.confounded[name] for name in classes if name in self.confounded}

    def available(self, classes: list[str]) -> list[str]:
        """Return the splits on which a model of `classes` can be tested, the one to rely on first."""
        return ["random"] if self.confounded_in(classes) else ["grouped", "random"]

    def indices(self, split: str, part: str, classes: list[str]) -> npt.NDArray[np.int64]:
        """Return the rows of `part` whose label is one of `classes`, in the order of the manifest.

        Raises SplitError where one of `classes` has no cell there.
        """
        chosen = (self.table[split] == part) & self.table["label"].isin(classes)
        missing = sorted(set(classes) - set(self.table.loc[chosen, "label"]))
        if missing:
            why = {name: self.confounded.get(name, "too few cells") for name in missing}
            raise SplitError(
                f"split '{split}' has no {part} cells of {why}; add cells or leave the class out of the task"
            )
        return np.flatnonzero(chosen.to_numpy())


def save(splits: Splits, path: Path) -> None:
    """Write `splits` to the Parquet file `path`."""
    table = pa.Table.from_pandas(splits.table, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), _MARK: json.dumps(splits.confounded).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def load(path: Path) -> Splits:
    """Read what `save` wrote; raises DataError where there is nothing of the kind."""
    try:
        table = pq.read_table(path)
        confounded: dict[str, str] = json.loads(table.schema.metadata[_MARK])
    except (FileNotFoundError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: holds no splits ({error!r}); run the split stage") from error
    return Splits(table.to_pandas(), confounded)
