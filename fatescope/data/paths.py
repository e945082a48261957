"""How the paths of an export spell facts."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fatescope.config import Dataset

ORIGIN = "origin.json"
"""A file at the top of the data folder that says where the cells come from; never a cell."""
CORRECTIONS = "corrections.jsonl"
"""What people said of cells, at the top of the folder that the service keeps their corrections in; never a cell."""


@dataclass(frozen=True)
class ParsedPath:
    """What one path says of its image."""

    facts: dict[str, str]
    """Named group of the pattern → value; an optional group that is absent is the empty string."""
    label: str
    """The class name, or the bare value where `dataset.classes` does not list it."""
    group: str
    """The acquisition group: the values of `dataset.group` joined by `_`."""


class PathParser:
    """Reads paths by `dataset.pattern`."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._pattern = re.compile(dataset.pattern)

    def read(self, path: str) -> ParsedPath | None:
        """Return what `path` (relative, with `/`) says, or None where the pattern does not match."""
        match = self._pattern.search(path)
        if match is None:
            return None
        facts = match.groupdict(default="")
        value = facts[self._dataset.label]
        group = "_".join(facts[name] for name in self._dataset.group)
        return ParsedPath(facts, self._dataset.classes.get(value, value), group)

    def is_input(self, name: ParsedPath) -> bool:
        """Tell whether this is the channel that the model sees."""
        return self._dataset.input_channel is None or name.facts["channel"] == self._dataset.input_channel


class PatternDiagnostics:
    """Says how far a path agrees with a pattern that does not match it."""

    def __init__(self, pattern: str) -> None:
        # Every beginning of the pattern that is a pattern itself, the longest first.
        self._beginnings = [(end, each) for end in range(len(pattern) - 1, 0, -1) if (each := _compiled(pattern[:end]))]
        self._pattern = pattern

    def reason(self, path: str) -> str:
        """Return where `path` departs from the pattern."""
        for end, beginning in self._beginnings:
            match = beginning.search(path)
            if match and match[0]:
                rest = self._pattern[end:]
                shown = f"{rest[:40]}…" if len(rest) > 40 else rest
                return f"fits dataset.pattern up to '{self._pattern[:end]}', then not '{shown}'"
        return "fits no part of dataset.pattern"


def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern)
    except re.error:
        return None


def is_hidden(path: str) -> bool:
    """Tell of a relative path, with `/`, whether it is what systems keep beside files and people do not see."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def list_files(folder: Path) -> Iterator[str]:
    """Yield the relative path, with `/`, of every file below `folder` in a fixed order, without hidden files."""
    yield from (path for path in _walk(folder, "") if path not in (ORIGIN, CORRECTIONS))


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    for name, is_folder in found:
        if is_folder:
            yield from _walk(folder / name, f"{prefix}{name}/")
        else:
            yield prefix + name
