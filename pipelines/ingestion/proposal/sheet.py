"""Sheets that say what each sample is (plate maps): tables beside the images, with a row for each sample or image."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from fatescope.data.names import normalise
from fatescope.data.sidecar import LABELS, Label
from fatescope.errors import DataError
from pipelines.ingestion.native_cells import TABLES
from pipelines.ingestion.proposal import tokens
from pipelines.ingestion.proposal.layout import Layout
from pipelines.ingestion.proposal.sheet_keys import Sample, Sheet, fact, match, plain, sample_tokens, samples_of
from pipelines.ingestion.proposal.wishes import class_name

MAX_BYTES = 5_000_000
"""A larger table is of measurements, not of samples."""
UNLABELLED = "unlabelled"
"""The class of samples that a sheet does not name."""
_CLASSES = (
    "class", "label", "medium", "media", "condition", "treatment", "cell_type", "celltype", "fate", "phenotype",
    "genotype", "state", "status", "compound", "drug",
)  # fmt: skip
"""What people call the column of the class, the more likely first."""
_ACQUISITIONS = (
    "run",
    "date",
    "acquisition",
    "experiment",
    "batch",
    "plate",
    "day",
    "replicate",
    "instrument",
    "passage",
)
_MAX_CLASSES, _MIN_GROUPS = 30, 3


@dataclass(frozen=True)
class Reading:
    """What a sheet says of the samples of an export."""

    sheet: Sheet
    keys: list[str]
    """Columns by which rows and samples find each other."""
    label: str
    """The column of the class."""
    rivals: list[str]
    """Other columns that may be of the class."""
    group: list[str]
    """Columns that make an acquisition group."""
    labels: dict[Sample, Label] = field(repr=False)
    """Sample → what its row says."""
    missing: list[Sample] = field(repr=False)
    """Samples that no row names."""


def is_sheet(path: str) -> bool:
    """Return whether a path is called like a sheet."""
    return path.lower().endswith(TABLES) and path.rpartition("/")[2] != LABELS


def understand(sheet: Sheet, layout: Layout, wanted: str | None = None) -> Reading | None:
    """Return what a sheet says of the samples of a layout, None where it is of something else.

    `wanted` is the column of the class. Raises DataError where two rows contradict each other, or that column is not
    there.
    """
    parts = [part for part in layout.parts if part not in (layout.channel, layout.object)]
    of_path = samples_of(layout)
    files = defaultdict[Sample, set[str]](set)
    for path, sample in zip(layout.paths, of_path, strict=True):
        if len(files[sample]) < 2:
            files[sample].add(path)
    known = {sample: sample_tokens(sample, parts, layout, its) for sample, its in files.items()}
    found = match(sheet, known)
    if found is None:
        return None
    keys, row_of = found
    label, rivals = _label_column(sheet, keys, wanted)
    if label is None:
        return None
    spelling = _spellings([sheet.rows[row][label] for row in row_of.values()])
    group = _group_columns(sheet, keys, label, list(row_of.values()))
    labels = {}
    for sample, row in row_of.items():
        values = sheet.rows[row]
        if not values[label]:
            raise DataError(
                f"{sheet.name}: the row of {_key(values, keys)} has no {label}; fill it in, or remove the row"
            )
        labels[sample] = Label(
            class_name(spelling[values[label].lower()]), "_".join(values[column] for column in group)
        )
    return Reading(sheet, keys, label, rivals, group, labels, [sample for sample in known if sample not in row_of])


def _key(row: dict[str, str], keys: Sequence[str]) -> str:
    return ", ".join(f"{key} {row[key]}" for key in keys)


def _label_column(sheet: Sheet, keys: list[str], wanted: str | None) -> tuple[str | None, list[str]]:
    """Return the column of the class, None where none can be, and others that may be meant."""
    if wanted is not None:
        for column in sheet.columns:
            if plain(column) == plain(wanted):
                return column, []
        raise DataError(f"--label {wanted}: {sheet.name} has no such column; it has {', '.join(sheet.columns)}")
    others = [column for column in sheet.columns if column not in keys]
    named = sorted(
        (column for column in others if plain(column) in _CLASSES), key=lambda column: _CLASSES.index(plain(column))
    )
    varied = [column for column in named if len(_distinct(sheet, column)) > 1] or named
    if varied:
        return varied[0], varied[1:]
    words = [
        column for column in others if fact(column) not in (*tokens.KEYS, *_ACQUISITIONS) and _is_class(sheet, column)
    ]
    return (words[0], words[1:]) if words else (None, [])


def _distinct(sheet: Sheet, column: str) -> set[str]:
    return {row[column].lower() for row in sheet.rows}


def _is_class(sheet: Sheet, column: str) -> bool:
    values = _distinct(sheet, column)
    words = all(re.search(r"[a-z]", value) for value in values)
    return words and 2 <= len(values) <= min(_MAX_CLASSES, max(2, len(sheet.rows) - 1))


def _spellings(values: list[str]) -> dict[str, str]:
    """Return value in lower case → as it is mostly written."""
    counts = Counter(values)
    return {value.lower(): value for value in sorted(counts, key=lambda value: counts[value])}


def _group_columns(sheet: Sheet, keys: list[str], label: str, rows: list[int]) -> list[str]:
    """Return the columns that make an acquisition group: those of people, else of acquisitions, else the sample's."""
    others = [column for column in sheet.columns if column != label]
    people = [column for column in others if fact(column) in tokens.PEOPLE]
    if people and _least_groups(sheet, label, people, rows) >= _MIN_GROUPS:
        return people
    runs = [column for column in others if fact(column) in _ACQUISITIONS]
    chosen = [*people, *runs]
    coarse = not chosen or _least_groups(sheet, label, chosen, rows) < _MIN_GROUPS
    return (
        keys if coarse and (not chosen or _least_groups(sheet, label, keys, rows) >= _MIN_GROUPS) else [label, *chosen]
    )


def _least_groups(sheet: Sheet, label: str, columns: list[str], rows: list[int]) -> int:
    """Return how many groups the class has that has fewest."""
    groups = defaultdict[str, set[tuple[str, ...]]](set)
    for row in rows:
        groups[sheet.rows[row][label].lower()].add(tuple(sheet.rows[row][column] for column in columns))
    return min(map(len, groups.values()))


def as_labels(reading: Reading, layout: Layout) -> dict[str, Label]:
    """Return the rows of a sidecar: one for a folder of which all images are of one sample, else one for each image."""
    of_path = dict(zip(layout.paths, samples_of(layout), strict=True))
    stated = {path: reading.labels.get(sample, Label(UNLABELLED, "")) for path, sample in of_path.items()}
    folders = defaultdict[str, set[Label]](set)
    for path, label in stated.items():
        folders[path.rpartition("/")[0]].add(label)
    rows = dict[str, Label]()
    for path, label in stated.items():
        folder = path.rpartition("/")[0]
        rows[f"{folder}/" if folder and len(folders[folder]) == 1 else path] = label
    return {normalise(path): label for path, label in rows.items()}
