"""Facts of the acquisition that may be compared between runs: their columns in tables, and the values that are known.

Ingest writes them into the manifest beside others, the service into its records, and the reference of a bundle has
them, each in a column of the same name. None names a person, a file, a day or an object. A date, and the order in the
run, are in no other run by nature, and so not among them.
"""

from collections.abc import Iterable

import pandas as pd

PREFIX = "native_"
"""Of the columns of facts in a table of cells."""
SETTINGS = ("instrument", "software", "magnification")
"""Facts that are one of a few values."""
BACKGROUND = "background_mean"
"""Of the brightfield; of other channels, with `_` and the channel behind it."""
NUMBERS = ("brightfield_power_w", "flow_speed", BACKGROUND)
"""Facts that are a number, which differs a little from run to run; so is BACKGROUND of each channel."""
KNOWN = "known_facts"
"""Where `DataFrame.attrs` of a reference has what `known_values` returned."""


def columns_of(table: pd.DataFrame) -> list[str]:
    """Return the columns of facts that a table has, of which something is known, without those that are there twice."""
    found = [
        name
        for name in table.columns
        if name.startswith(PREFIX) and _is_compared(name.removeprefix(PREFIX)) and table[name].notna().any()
    ]
    return without_repetition(table, found)


def _is_compared(name: str) -> bool:
    stem, _, channel = name.rpartition("_")
    return name in (*SETTINGS, *NUMBERS) or (stem == BACKGROUND and channel.isdecimal())


def without_repetition(table: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    """Return the columns without that of the brightfield's background which is there under its channel once more."""
    brightfield = table.get(PREFIX + BACKGROUND)
    return [
        name
        for name in columns
        if brightfield is None or not name.startswith(f"{PREFIX}{BACKGROUND}_") or not table[name].equals(brightfield)
    ]


def known_values(cells: pd.DataFrame) -> dict[str, list[str] | list[float]]:
    """Return fact → its values in `cells`, which have a `group`: of a number, the least and the largest of its runs.

    That of a run is its median. Facts that no file says are left out.
    """
    known: dict[str, list[str] | list[float]] = {}
    for column in columns_of(cells):
        name, values = column.removeprefix(PREFIX), cells[column].dropna()
        if name in SETTINGS:
            known[name] = sorted(values.unique().tolist())
        else:
            of_runs = values.groupby(cells["group"]).median()
            known[name] = [float(of_runs.min()), float(of_runs.max())]
    return known
