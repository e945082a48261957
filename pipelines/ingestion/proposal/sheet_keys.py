"""Tables that say what samples are, and how their rows and the samples find each other."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from fatescope.data.names import normalise
from pipelines.ingestion.proposal.layout import Layout, Part
from pipelines.ingestion.proposal.tokens import key_of

Sample = tuple[str, ...]
"""The parts of a path that are the same for all images of a sample."""
_MAX_KEYS, _MAX_COLUMNS = 3, 12


@dataclass(frozen=True)
class Sheet:
    """A table with a header."""

    name: str
    columns: list[str]
    rows: list[dict[str, str]]


def read_sheet(raw: bytes, name: str) -> Sheet | None:
    """Return the table in a file, None where it is none of several columns."""
    text = _decode(raw)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        table = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error:
        return None
    columns = [column for column in (table[0] if table else {}) if column]
    if len(columns) < 2:
        return None
    rows = [{column: (row[column] or "").strip() for column in columns} for row in table]
    return Sheet(name, columns, [row for row in rows if any(row.values())])


def _decode(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def samples_of(layout: Layout) -> list[Sample]:
    """Return the sample of each path of a layout: all parts but channel and object, as they are written."""
    parts = [part for part in layout.parts if part not in (layout.channel, layout.object)]
    return list(zip(*(part.column.values for part in parts), strict=True)) if parts else [()] * len(layout.paths)


def plain(text: str) -> str:
    """Return a name without what people write differently: case, separators and leading zeros."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[_\-\s.,]+", "_", normalise(text).lower()).strip("_"))


def fact(column: str) -> str:
    """Return the fact that a column is called after."""
    words = re.split(r"[_\-\s.,]+", column.lower().strip())
    return next((fact for word in words if (fact := key_of(word))), plain(column))


def sample_tokens(sample: Sample, parts: Sequence[Part], layout: Layout, files: set[str]) -> set[str]:
    """Return what a column of a sheet may say of a sample: names of folders and parts of them, and `fact=number`."""
    found = set[str]()
    for level in range(layout.depth + 1):
        texts = [value for value, part in zip(sample, parts, strict=True) if part.level == level]
        found |= {
            plain("_".join(texts[begin:end]))
            for begin, end in combinations(range(len(texts) + 1), 2)
            if end - begin == len(texts) or not "".join(texts[begin:end]).isdecimal()
        }
    for value, part in zip(sample, parts, strict=True):
        number = re.sub(r"^\D*0*(?=\d)", "", value)
        if part.column.kind == "dayrun":
            day, _, run = value.lower().partition("d")
            found |= {f"day={day}", f"run={run}"}
        elif part.column.name and number.isdecimal():
            found.add(f"{part.column.name}={number}")
    for path in files if len(files) == 1 or layout.native else ():
        found |= {plain(path), plain(path.rpartition("/")[2]), plain(path.rpartition("/")[2].partition(".")[0])}
    folders = next(iter(files)).split("/")[:-1]
    return found | {plain(text) for text in (*folders, "/".join(folders), "/".join(sample))}


def match(sheet: Sheet, samples: dict[Sample, set[str]]) -> tuple[list[str], dict[Sample, int]] | None:
    """Return the columns by which rows are found, and sample → its row; None where less than half have one."""
    everything = set().union(*samples.values())
    cells = {column: [_spelt(column, row[column], everything) for row in sheet.rows] for column in sheet.columns}
    usable = [column for column in sheet.columns if 2 * sum(map(bool, cells[column])) >= len(sheet.rows)]
    best: tuple[list[str], dict[Sample, int]] | None = None
    for size in range(1, _MAX_KEYS + 1):
        for keys in combinations(usable[:_MAX_COLUMNS], size):
            rows = _unique_rows([tuple(cells[key][i] for key in keys) for i in range(len(sheet.rows))])
            found = _rows_of(rows, samples) if rows is not None else {}
            if 2 * len(found) >= len(samples) and (best is None or len(found) > len(best[1])):
                best = list(keys), found
        if best:
            return best
    return None


def _spelt(column: str, value: str, everything: set[str]) -> str:
    """Return the token that a value stands for, empty where no sample has it."""
    name, of = plain(value), fact(column)
    tokens = (f"{of}={name}", name, f"{plain(column)}{name}", f"{of}{name}") if name else ()
    return next((token for token in tokens if token in everything), "")


def _unique_rows(keys: list[tuple[str, ...]]) -> dict[tuple[str, ...], int] | None:
    """Return key → row, of rows with a key; None where two rows have one."""
    rows = {key: i for i, key in enumerate(keys) if all(key)}
    return rows if len(rows) == sum(all(key) for key in keys) else None


def _rows_of(rows: dict[tuple[str, ...], int], samples: dict[Sample, set[str]]) -> dict[Sample, int]:
    """Return sample → its row; empty where a sample has several."""
    found = {}
    for sample, known in samples.items():
        hits = [row for key, row in rows.items() if known.issuperset(key)]
        if len(hits) > 1:
            return {}
        if hits:
            found[sample] = hits[0]
    return found
