"""Read the prediction log of a service: `RECORDS/TASK/TIME-VERSION-PROCESS-NUMBER-TOKEN.parquet`, newest first."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

_TIME_LENGTH = len("20261125T170242")
"""Characters of the time with which the names of files begin."""


def read_newest(
    folder: Path, version: str, count: int, columns: Sequence[str] | None = None, since: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Return the newest `count` rows of a `version` in the `folder` of a task, the oldest first; empty without any.

    With `columns`, rows have these and the probabilities `p_CLASS`, and files that lack one are passed over; with
    `since`, rows are later than that.
    """
    tables, rows = list[pd.DataFrame](), 0
    # The version follows the time; the numbers of the process and of the file come after it.
    for path in sorted(folder.glob(f"{'?' * _TIME_LENGTH}-{version}-*.parquet"), reverse=True):
        try:
            table = _read(path, columns)
        except FileNotFoundError:  # the service has deleted it since
            continue
        if table is None:
            continue
        if since is not None and "time" in table:
            table = table.loc[table["time"] > since]
        tables.append(table)
        rows += len(table)
        if rows >= count:
            break
    if not tables:
        return pd.DataFrame()
    found = pd.concat(tables, ignore_index=True).sort_values("time", kind="stable")
    return found.tail(count).reset_index(drop=True)


def _read(path: Path, columns: Sequence[str] | None) -> pd.DataFrame | None:
    table: pd.DataFrame
    if columns is None:
        table = pq.read_table(path).to_pandas()
        return table
    names = pq.read_schema(path).names
    if set(columns) - set(names):
        return None
    wanted = [*columns, *(name for name in names if name.startswith("p_"))]
    table = pq.read_table(path, columns=wanted).to_pandas()
    return table
