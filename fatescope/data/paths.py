"""Parse the paths of an export: class, acquisition group, channel and other fields of a cell."""

import os
import re
from collections.abc import Iterator
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


def list_files(folder: Path) -> Iterator[str]:
    """Yield the relative path, with `/`, of every file below `folder` in a fixed order, without hidden files."""
    yield from (path for path in _walk(folder, "") if path not in (ORIGIN, CORRECTIONS))


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        listing = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    for name, is_folder in listing:
        if is_folder:
            yield from _walk(folder / name, f"{prefix}{name}/")
        else:
            yield prefix + name
