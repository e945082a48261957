"""Plate maps: tables that say which well or sample has which roles, as CSV or as cells copied from a spreadsheet.

The page reads the same tables, `service/page/plate-map.js`; `tests/page/roles.json` holds both to the same answers.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from fatescope.data.roles import Roles, read_roles, significant, to_number, to_unit

_COLUMNS = {
    "well": ("well", "wells", "position", "pos"),
    "sample": ("sample", "sample name", "sample id", "name", "file", "folder", "id"),
    "condition": ("condition", "treatment", "group", "medium", "compound", "drug", "genotype"),
    "replicate": ("replicate", "rep", "repeat", "run"),
    "day": ("day", "days", "div", "time", "timepoint", "time point"),
    "dose": ("dose", "concentration", "conc"),
    "donor": ("donor", "patient", "subject", "line", "cell line", "animal"),
}
"""Role → what a column of it may be called."""
_DAYS = (
    (re.compile(r"h|hrs?|hours?", re.IGNORECASE), 1 / 24),
    (re.compile(r"w|wk|weeks?", re.IGNORECASE), 7.0),
)
_HEADING = re.compile(r"(.*?)\s*(?:[(\[]\s*(.*?)\s*[)\]])?")
_WELL = re.compile(r"([A-P])0?([1-9]|1[0-9]|2[0-4])", re.IGNORECASE)
NO_HEADER = (
    "the first line names neither a column 'well' nor 'sample'; name one of them, and 'condition', 'day', 'dose', "
    "'replicate' or 'donor'"
)
NO_ROLE = (
    "the first line names no column 'condition', 'day', 'dose', 'replicate' or 'donor'; name what a sample is in one "
    "of them"
)


@dataclass(frozen=True)
class Row:
    """A row of a plate map."""

    well: str | None
    """As A1."""
    sample: str | None
    line: int
    """From 1."""
    roles: Roles


@dataclass
class PlateMap:
    """What a plate map says, and what in it could not be read."""

    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def parse(text: str) -> list[list[str]]:
    """Return the fields of a table of text, by row; the separator is that of its first line."""
    plain = text.removeprefix("\ufeff")
    first = plain.split("\n", 1)[0]
    separator = next((mark for mark in "\t;," if mark in first), ",")
    return [[entry.strip() for entry in row] for row in csv.reader(io.StringIO(plain), delimiter=separator)]


def read(rows: Sequence[Sequence[str]]) -> PlateMap:
    """Read a plate map from the fields of a sheet, by row: a list with a heading, or a plate as it lies."""
    header, lines = list(rows[0]) if rows else [], rows[1:]
    if len(header) > 1 and header[1:] == [str(number) for number in range(1, len(header))]:
        return PlateMap([row for i, fields in enumerate(lines, 2) for row in _read_grid_line(i, fields)])
    columns = [_read_heading(heading) for heading in header]
    plate = PlateMap()
    named = {role for role, _ in columns if role is not None}
    places = named & {"well", "sample"}
    if not places or named == places:
        # A table of features may have a column `id`, and is no plate map for that.
        plate.problems.append(NO_ROLE if places else NO_HEADER)
        return plate
    seen: dict[str, int] = {}
    for line, fields in enumerate(lines, 2):
        if not any(fields):
            continue
        row = _read_line(columns, fields, line, plate.problems)
        place = row.sample or row.well
        if not place:
            plate.problems.append(f"line {line}: neither a well nor a sample is named")
        elif place in seen:
            plate.problems.append(f"line {line}: {place} is named before, on line {seen[place]}; the first counts")
        else:
            plate.rows.append(row)
            seen[place] = line
    return plate


def match(rows: Iterable[Row], samples: Iterable[str]) -> dict[str, Roles]:
    """Return sample → roles, for the samples that rows name, wholly or by the last folder, or whose name has a well."""
    rows = list(rows)
    named = {row.sample.lower(): row.roles for row in reversed(rows) if row.sample}
    wells = {row.well: row.roles for row in reversed(rows) if row.well and not row.sample}
    found = {}
    for sample in samples:
        lower = sample.lower()
        roles = named.get(lower) or named.get(lower.rpartition("/")[2])
        if roles is None:
            in_name = [well for part in re.split(r"[\W_]+", sample) if (well := _plain_well(part)) in wells]
            roles = wells[in_name[-1]] if in_name else None
        if roles is not None:
            found[sample] = roles
    return found


def _read_heading(heading: str) -> tuple[str | None, str | None]:
    """Return the role of a column and the unit, of `Dose (uM)`; the role is None where it is another column."""
    match_ = _HEADING.fullmatch(heading)
    if match_ is None:
        return None, None
    name = match_[1].lower().replace("_", " ")
    return next((role for role, names in _COLUMNS.items() if name in names), None), match_[2]


def _read_line(
    columns: Sequence[tuple[str | None, str | None]], fields: Sequence[str], line: int, problems: list[str]
) -> Row:
    found: dict[str, str] = {}
    units: dict[str, str | None] = {}
    conditions = []
    for (role, unit), text in zip(columns, fields, strict=False):
        if role == "condition" and text:
            conditions.append(text)
        elif role is not None and text and role not in found:
            found[role], units[role] = text, unit
    roles = Roles(", ".join(conditions), replicate=found.get("replicate"), donor=found.get("donor"))
    if "day" in found:
        roles = replace(roles, day=_read_day(found["day"], units["day"]))
        if roles.day is None:
            problems.append(f"line {line}: the day '{found['day']}' is not a number; write days as 3 or 3.5")
    if "dose" in found:
        dose, dose_unit = _read_dose(found["dose"], units["dose"])
        roles = replace(roles, dose=dose, unit=dose_unit)
        if dose is None:
            problems.append(f"line {line}: the dose '{found['dose']}' is not a number; write doses as 3 or 3.5")
    return Row(_plain_well(found.get("well", "")), found.get("sample"), line, roles)


def _read_day(text: str, unit: str | None) -> float | None:
    number = to_number(text)
    if number is None:
        return read_roles(text).day
    factor = next((days for pattern, days in _DAYS if pattern.fullmatch(unit or "")), 1.0)
    return significant(number * factor)


def _read_dose(text: str, unit: str | None) -> tuple[float | None, str | None]:
    number = to_number(text)
    if number is not None:
        return number, to_unit(unit) if unit else None
    roles = read_roles(text)
    return roles.dose, roles.unit


def _read_grid_line(line: int, fields: Sequence[str]) -> Iterable[Row]:
    """Return the rows of a line of a plate as it lies; a field is written like the name of a sample."""
    for number, text in enumerate(fields[1:], 1):
        well = _plain_well(f"{fields[0]}{number}")
        if well and text:
            yield Row(well, None, line, read_roles(text))


def _plain_well(text: str) -> str | None:
    found = _WELL.fullmatch(text)
    return found and found[1].upper() + found[2]
