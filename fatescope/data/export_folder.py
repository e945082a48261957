"""The folder of an export: which files are in it, and which of them are records of ours, not images."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fatescope.data import names
from fatescope.data.sidecar import LABELS, Label, read_table

ORIGIN = "origin.json"
"""A file at the top of the data folder that records where the cells come from; never an image."""
CORRECTIONS = "corrections.jsonl"
"""Labels that people corrected, in the folder of corrections of the service; never an image."""

Report = Callable[[str, str], None]
"""Called with a path and the reason why it cannot be read."""


def list_files(folder: Path, report: Report | None = None) -> Iterator[str]:
    """Yield the relative path, with `/`, of every file below `folder` in a fixed order.

    Hidden files, those that operating systems add, and those in which Fatescope keeps what it knows of images are left
    out. Links are followed, but for a link to a folder that it is in. `report` learns of that, of folders that cannot
    be read, of links that lead nowhere, of what is no file (a device or a socket), and of names that are not UTF-8;
    none of these is yielded then. Without it the last three are yielded, for the caller to fail on.
    """
    yield from (path for path in _walk(folder, "", report, ()) if not is_record(path))


def is_record(path: str) -> bool:
    """Return whether a path, with `/`, is of a file in which Fatescope keeps what it knows of the images beside it."""
    return path == ORIGIN or path.rpartition("/")[2] in (CORRECTIONS, LABELS)


def read_labels(folder: Path) -> dict[str, Label]:
    """Return what the sidecars in `folder` and the folders below say of images, by paths relative to `folder`.

    They are sought where images are, behind links too. Of two sidecars that name an image, the one that is nearer to
    it counts. A folder that does not exist has none. Raises DataError for a damaged sidecar.
    """
    if not folder.exists():
        return {}
    labels: dict[str, Label] = {}
    tables = (path for path in _walk(folder, "", lambda *_: None, ()) if path.rpartition("/")[2] == LABELS)
    # The deepest last.
    for path in sorted(tables, key=lambda path: path.count("/")):
        prefix = names.normalise(path.removesuffix(LABELS))
        labels |= {prefix + name: label for name, label in read_table(folder / path).items()}
    return labels


def shown(path: str) -> str:
    r"""Return a path as text that can be printed and kept: a byte that is not UTF-8 becomes `\xff`."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _walk(folder: Path, prefix: str, report: Report | None, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield the paths below `folder`, which is in the folders `above`, given by device and inode."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            listing = sorted((entry.name, *_kind(entry)) for entry in entries if not names.is_system_file(entry.name))
    except OSError as error:
        if not prefix or report is None:
            raise
        report(shown(prefix), f"the folder cannot be read: {error.strerror}")
        return
    place = (status.st_dev, status.st_ino)
    if place in above:
        if report is not None:
            report(shown(prefix), "a link to a folder that it is in")
        return
    for name, is_folder, problem in listing:
        if report is not None and (reason := problem or ("" if _is_utf8(name) else "the name is not UTF-8")):
            report(shown(prefix + name), reason)
        elif is_folder:
            yield from _walk(folder / name, f"{prefix}{name}/", report, (*above, place))
        else:
            yield prefix + name


def _kind(entry: "os.DirEntry[str]") -> tuple[bool, str]:
    """Return whether an entry is a folder, and why it is neither a folder nor a file, if so."""
    try:
        if entry.is_dir():
            return True, ""
        if entry.is_file():
            return False, ""
    except OSError as error:
        return False, f"cannot be read: {error.strerror}"
    if entry.is_symlink():
        return False, f"a link to '{shown(str(Path(entry.path).readlink()))}', which is not there"
    return False, "neither a file nor a folder"


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
