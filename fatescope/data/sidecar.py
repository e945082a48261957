"""Labels and acquisition groups that stand beside images instead of in their paths: `fatescope_labels.csv`.

A table in UTF-8 with the columns `path` (relative to the folder of the table, with `/`), `label` (the class name) and
`group` (the acquisition group; empty for the one that the path says). A path that ends with `/` is a folder, whose row
holds for all images below it that no row nearer to them names. What the table says of an image holds instead of what
its path says: a cell that a person labels otherwise stays in the group that it was acquired in.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fatescope.atomic import replacing
from fatescope.data.names import normalise
from fatescope.errors import DataError

LABELS = "fatescope_labels.csv"
COLUMNS = ("path", "label", "group")


@dataclass(frozen=True)
class Label:
    """What a sidecar says of an image."""

    label: str
    """The class name."""
    group: str
    """The acquisition group; empty for the one that the path says."""


Labels = Mapping[str, Label]
"""Path of an image, or of a folder with `/` at its end, relative → what a sidecar says of it."""


def find_label(labels: Labels, path: str) -> Label | None:
    """Return what `labels` say of the image at `path`: of itself, else of the nearest folder that they name."""
    if not labels:
        return None
    while path:
        if path in labels:
            return labels[path]
        folder, slash, _ = path.rstrip("/").rpartition("/")
        path = folder + slash
    return None


def read_table(path: Path) -> dict[str, Label]:
    """Return the rows of one sidecar; raises DataError where it is no such table."""
    try:
        # Spreadsheets put a byte order mark before the first column.
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            if missing := [name for name in COLUMNS if name not in (table.fieldnames or [])]:
                raise DataError(f"{path}: has no column {', '.join(missing)}; its columns must be {', '.join(COLUMNS)}")
            rows = {normalise(row["path"] or ""): Label(row["label"] or "", row["group"] or "") for row in table}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); save it as CSV in UTF-8, separated by commas") from error
    if unlabelled := [name for name, row in rows.items() if not name or not row.label]:
        raise DataError(f"{path}: the row of '{unlabelled[0]}' lacks a path or a label; complete or remove it")
    return rows


def write_table(path: Path, labels: Labels) -> None:
    """Write one sidecar, in the order of paths."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((name, row.label, row.group) for name, row in sorted(labels.items()))
