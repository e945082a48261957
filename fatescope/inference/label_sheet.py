"""A sheet of the cells to label, which a person fills in: `cell`, `file`, `called`, `verdict`, `time`, `label`.

The service keeps no images. `file` is filled in where a folder holds the image: a cell is found by the hash of its
pixels, so that its file may have been renamed or moved since. Of a TIFF with several pages the page is named too, of a
native file (.cif, .rif) the object. Cells of models that take several channels are not found.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from fatescope.atomic import replacing
from fatescope.data import images
from fatescope.data.crops import pixel_hash
from fatescope.data.export_folder import list_files
from fatescope.data.native.names import is_native
from fatescope.data.native.objects import NativeObject
from fatescope.data.native.reader import NativeFile
from fatescope.errors import DataError, ImageError
from fatescope.inference.classification import MAX_PIXELS

COLUMNS = ("cell", "file", "called", "verdict", "time", "label")
UNKNOWN = "?"
"""In the column `label`: nobody can tell."""


def write_sheet(cells: pd.DataFrame, path: Path, folder: Path | None = None) -> int:
    """Write rows of batches (`label_queue.Batch`), in the order in which they are to be labelled.

    Files are sought in `folder` and below. Returns of how many cells a file was found.
    """
    files = _find(folder, set(cells["image_hash"].tolist())) if folder else {}
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as sheet:
        writer = csv.writer(sheet)
        writer.writerow(COLUMNS)
        columns = cells[["cell", "image_hash", "label", "verdict", "time"]]
        for cell, pixels, label, verdict, time in columns.itertuples(index=False):
            found = files.get(int(pixels), "")
            writer.writerow([cell, found, label, verdict, time.isoformat(timespec="seconds"), ""])
    return sum(int(pixels) in files for pixels in cells["image_hash"])


def read_sheet(path: Path, classes: list[str]) -> list[tuple[str, str]]:
    """Return (cell, label) of the rows that are filled in, an empty label where nobody can tell.

    Raises DataError for a table without these columns, or with a label that is no class.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as sheet:
            rows = list(csv.DictReader(sheet))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); save it as CSV in UTF-8") from error
    filled = []
    for number, row in enumerate(rows, 2):
        cell, label = (row.get("cell") or "").strip(), (row.get("label") or "").strip()
        if "cell" not in row or "label" not in row:
            raise DataError(f"{path}: has no columns cell and label; fill in the sheet of `fatescope labels sheet`")
        if not label:
            continue
        if label not in (*classes, UNKNOWN):
            allowed = ", ".join(classes)
            raise DataError(
                f"{path}, row {number}: '{label}' is not one of {allowed}, nor {UNKNOWN} for nobody can tell"
            )
        filled.append((cell, "" if label == UNKNOWN else label))
    return filled


def _find(folder: Path, wanted: set[int]) -> dict[int, str]:
    """Return the hash of the pixels → the file, of those `wanted` that are below `folder`."""
    found: dict[int, str] = {}
    for name in list_files(folder, lambda *_: None):
        for place, digest in _digests(folder / name):
            if digest in wanted:
                found.setdefault(digest, f"{name}, {place}" if place else name)
            # A native file may have a million objects.
            if len(found) == len(wanted):
                return found
    return found


def _digests(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the page, where there are several, or the object, and the hash of the pixels of the images in a file."""
    if is_native(path.name):
        yield from _native_digests(path)
        return
    try:
        pages = images.decode(path.read_bytes(), path.name, MAX_PIXELS)
    except (ImageError, OSError):
        return
    for number, (_, pixels) in enumerate(pages):
        yield f"page {number + 1}" if len(pages) > 1 else "", pixel_hash(pixels)


def _native_digests(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the object and the hash of the pixels of every channel in a native file, up to where it is damaged."""
    try:
        with path.open("rb") as file:
            native = NativeFile(file, path.name)
            for place in native.places():
                # Which channel the model was given, the records do not say; decoding one decodes them all.
                found = native.read(place, native.acquisition.channels, MAX_PIXELS)
                if isinstance(found, NativeObject):
                    for pixels in found.images:
                        yield f"object {found.facts.object}", pixel_hash(pixels)
    except (ImageError, OSError):
        return
