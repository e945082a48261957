"""Parse the paths of an export: class, acquisition group, channel and other fields of a cell."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fatescope.config import Dataset

ORIGIN = "origin.json"
"""A file at the top of the data folder that records where the cells come from; never an image."""
CORRECTIONS = "corrections.jsonl"
"""Labels that people corrected, at the top of the folder of corrections of the service; never an image."""


@dataclass(frozen=True)
class ParsedPath:
    """What the path of an image encodes."""

    facts: dict[str, str]
    """Named group of the pattern → value; an optional group that is absent is the empty string."""
    label: str
    """The class name, or the bare value where `dataset.classes` does not list it."""
    group: str
    """The acquisition group: the values of `dataset.group` joined by `_`."""


class PathParser:
    """Parses paths with `dataset.pattern`."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._pattern = re.compile(dataset.pattern)

    def read(self, path: str) -> ParsedPath | None:
        """Return what `path` (relative, with `/`) encodes, or None where the pattern does not match."""
        match = self._pattern.search(path)
        if match is None:
            return None
        facts = match.groupdict(default="")
        value = facts[self._dataset.label]
        group = "_".join(facts[name] for name in self._dataset.group)
        return ParsedPath(facts, self._dataset.classes.get(value, value), group)

    def is_input(self, parsed: ParsedPath) -> bool:
        """Return whether an image is of the channel that the model gets."""
        return self._dataset.input_channel is None or parsed.facts["channel"] == self._dataset.input_channel


class PatternDiagnostics:
    """Explains where a path departs from a pattern that does not match it."""

    def __init__(self, pattern: str) -> None:
        # Every prefix of the pattern that is a valid pattern, the longest first.
        prefixes = ((end, _compile(pattern[:end])) for end in range(len(pattern) - 1, 0, -1))
        self._prefixes = [(end, prefix) for end, prefix in prefixes if prefix is not None]
        self._pattern = pattern

    def reason(self, path: str) -> str:
        """Return where `path` departs from the pattern."""
        for end, prefix in self._prefixes:
            match = prefix.search(path)
            if match and match[0]:
                rest = self._pattern[end:]
                excerpt = f"{rest[:40]}…" if len(rest) > 40 else rest
                return f"fits dataset.pattern up to '{self._pattern[:end]}', but not the rest, '{excerpt}'"
        return "fits no part of dataset.pattern"


def _compile(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern)
    except re.error:
        return None


def is_hidden(path: str) -> bool:
    """Return whether a relative path, with `/`, is hidden or metadata of an operating system."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


Report = Callable[[str, str], None]
"""Called with a path and the reason why it cannot be read."""


def list_files(folder: Path, report: Report | None = None) -> Iterator[str]:
    """Yield the relative path, with `/`, of every file below `folder` in a fixed order, without hidden files.

    Links are followed, but for a link to a folder that it is in. `report` learns of that, of folders that cannot be
    read, of links that lead nowhere, of what is no file (a device or a socket), and of names that are not UTF-8; none
    of these is yielded then. Without it the last three are yielded, for the caller to fail on.
    """
    yield from (path for path in _walk(folder, "", report, ()) if path not in (ORIGIN, CORRECTIONS))


def shown(path: str) -> str:
    r"""Return a path as text that can be printed and kept: a byte that is not UTF-8 becomes `\xff`."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _walk(folder: Path, prefix: str, report: Report | None, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield the paths below `folder`, which is in the folders `above`, given by device and inode."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            listing = sorted((entry.name, *_kind(entry)) for entry in entries if not entry.name.startswith("."))
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
