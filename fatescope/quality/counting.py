"""Expectations counted over a whole table, a part at a time, where it is too large for Great Expectations.

Memory is 8 bytes a row, for the hashes by which repeated values are found, and otherwise that of a part. Verdicts are
those that Great Expectations would give: missing values do not count, and of the others a share `mostly` must hold.
Cell ids are compared by 64-bit hashes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.config import Dataset
from fatescope.data.table_parts import TableParts
from fatescope.quality.expectations import SHARED, Expectations, add_numbers

Key = tuple[str, ...]
KEYS = ("label", "group")
Hashes = npt.NDArray[np.uint64]


@dataclass
class Count:
    """How a whole table meets one expectation."""

    rows: int = 0
    """Rows that have a value."""
    unexpected: int = 0
    """Those of them that violate it."""
    where: Counter[Key] = field(default_factory=Counter)
    """Class and group → rows that violate it."""
    different: set[Any] | None = None
    """The values that there are, where it is about their number."""

    def add(self, part: pd.DataFrame, bad: npt.NDArray[np.bool_], present: npt.NDArray[np.bool_]) -> None:
        """Add the (n,) rows of a part, which are `bad` or not, and have a value or not."""
        self.rows += int(present.sum())
        self.unexpected += int(bad.sum())
        keys = [name for name in KEYS if name in part]
        if keys and bad.any():
            for key, rows in part.loc[bad].groupby(keys, observed=True).size().items():
                self.where[tuple(map(str, key)) if isinstance(key, tuple) else (str(key),)] += int(rows)

    def passes(self, limits: Mapping[str, Any]) -> bool:
        """Return whether the table meets the expectation with these arguments."""
        if self.different is not None:
            return bool(limits["min_value"] <= len(self.different) <= limits["max_value"])
        return not self.rows or (self.rows - self.unexpected) / self.rows >= limits.get("mostly", 1.0)


def count(table: TableParts, dataset: Dataset, expectations: Expectations, shared: Hashes) -> list[Count | None]:
    """Return how the table of cells meets each of the expectations; None for one that is not about its rows.

    `shared` comes from `shared_hashes`.
    """
    kinds = [type(each).__name__ for each in expectations]
    columns = [getattr(each, "column", None) for each in expectations]
    known = {*table.columns, SHARED, *(f"{fact} (number)" for fact in dataset.ranges if fact in table.columns)}
    counts = [
        Count(different=set() if kind == _DIFFERENT else None)
        if column in known and kind in (_BETWEEN, _IN_SET, _UNIQUE, _DIFFERENT)
        else None
        for kind, column in zip(kinds, columns, strict=True)
    ]
    by_row = [
        (expectation, found)
        for expectation, kind, column, found in zip(expectations, kinds, columns, counts, strict=True)
        if found is not None and kind != _UNIQUE and column != SHARED
    ]
    for part in table.read(_needed(table, dataset, [str(each.column) for each, _ in by_row])):
        _add_rows(add_numbers(part, dataset), by_row)
    for kind, column, found in zip(kinds, columns, counts, strict=True):
        if found is not None and kind == _UNIQUE:
            _add_repeated(table, str(column), found)
        elif found is not None and column == SHARED:
            for part in table.read(_needed(table, dataset, ["pixel_hash"])):
                found.add(part, is_among(part["pixel_hash"], shared), np.ones(len(part), bool))
    return counts


_BETWEEN, _IN_SET = "ExpectColumnValuesToBeBetween", "ExpectColumnValuesToBeInSet"
_UNIQUE, _DIFFERENT = "ExpectColumnValuesToBeUnique", "ExpectColumnUniqueValueCountToBeBetween"


def _needed(table: TableParts, dataset: Dataset, columns: Sequence[str]) -> list[str]:
    """Return which columns to read in order to look at `columns`, some of which are derived."""
    wanted = {*columns, *KEYS, *(fact for fact in dataset.ranges if f"{fact} (number)" in columns)}
    return [name for name in table.columns if name in wanted]


def _add_rows(part: pd.DataFrame, by_row: list[tuple[Any, Count]]) -> None:
    for expectation, found in by_row:
        values = part[expectation.column]
        present = values.notna().to_numpy()
        if found.different is not None:
            found.different.update(values[present].unique().tolist())
            continue
        good = np.ones(len(part), bool)
        if type(expectation).__name__ == _IN_SET:
            good &= values.isin(expectation.value_set).to_numpy()
        else:
            numbers = values.to_numpy(float)
            if expectation.min_value is not None:
                good &= numbers >= expectation.min_value
            if expectation.max_value is not None:
                good &= numbers <= expectation.max_value
        found.add(part, present & ~good, present)


def _add_repeated(table: TableParts, column: str, found: Count) -> None:
    repeated = repeated_hashes(table, column)
    names = [name for name in table.columns if name in (column, *KEYS)]
    for part in table.read(names):
        present = part[column].notna().to_numpy()
        found.add(part, present & is_among(part[column], repeated), present)


def hash_values(values: "pd.Series[Any]") -> Hashes:
    """Return (n,) numbers that are the same for the same values; those of integers are the values themselves."""
    if pd.api.types.is_integer_dtype(values):
        return values.to_numpy(np.int64).view(np.uint64)
    return pd.util.hash_array(values.to_numpy(object), categorize=False)


def is_among(values: "pd.Series[Any]", known: Hashes) -> npt.NDArray[np.bool_]:
    """Return (n,) whether the hash of each value is among `known`, which are in ascending order."""
    if not len(known):
        return np.zeros(len(values), bool)
    hashes = hash_values(values)
    found: npt.NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes
    return found


def repeated_hashes(table: TableParts, column: str) -> Hashes:
    """Return in ascending order the hashes of the values of a column that several rows have."""
    hashes = np.empty(len(table), np.uint64)
    end = 0
    for part in table.read([column]):
        values = part[column].dropna()
        hashes[end : end + len(values)] = hash_values(values)
        end += len(values)
    hashes = hashes[:end]
    hashes.sort()
    repeated: Hashes = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    return repeated


def shared_hashes(table: TableParts) -> Hashes:
    """Return in ascending order the `pixel_hash` of images that are in several groups."""
    repeated = repeated_hashes(table, "pixel_hash")
    first, shared = np.full(len(repeated), -1, np.int64), np.zeros(len(repeated), bool)
    numbers = dict[str, int]()
    for hashes, groups in _of_repeated(table, repeated):
        codes = np.array([numbers.setdefault(name, len(numbers)) for name in groups], np.int64)
        place = np.searchsorted(repeated, hashes)
        new = np.flatnonzero(first[place] < 0)
        first[place[new]] = codes[new]
        shared[place[first[place] != codes]] = True
    return repeated[shared]


def _of_repeated(table: TableParts, repeated: Hashes) -> Iterator[tuple[Hashes, list[str]]]:
    if not len(repeated):
        return
    for part in table.read(["pixel_hash", "group"]):
        rows = part.loc[is_among(part["pixel_hash"], repeated)]
        if len(rows):
            yield hash_values(rows["pixel_hash"]), rows["group"].tolist()
