"""Parse the paths of an export: class, acquisition group, channel and other fields of a cell."""

import re
from dataclasses import dataclass
from functools import lru_cache

from fatescope.config import Dataset
from fatescope.config.names import plain_channel
from fatescope.data import names
from fatescope.data.names import ImageName
from fatescope.data.sidecar import Labels, find_label

_REMEMBERED = 4096
"""Names of which it is remembered what they say: of each file of a request it is asked twice."""
_EXPORTED_ENDINGS = (".ome.tif", ".tif", ".ome.tiff", ".tiff", ".png", ".bmp")


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
    """Parses paths with `dataset.pattern`, and names that it does not match as people and instruments write them."""

    def __init__(self, dataset: Dataset, labels: Labels | None = None) -> None:
        """Read paths as `dataset` says; `labels` are those of files that have theirs in a sidecar."""
        self._dataset, self._labels = dataset, labels or {}
        self._pattern = re.compile(dataset.pattern)
        self._any_case = re.compile(dataset.pattern, re.IGNORECASE)
        spellings = [value.lower() for value in dataset.classes]
        # Values that differ in case only stay apart.
        self._values = {value.lower(): value for value in dataset.classes if spellings.count(value.lower()) == 1}
        self._names = lru_cache(_REMEMBERED)(self._read_name)

    def read(self, path: str) -> ParsedPath | None:
        """Return what `path` (relative) encodes, or None where the pattern does not match.

        The pattern is tried on the path as it is; then in any case, without the marks of a copy, and with the channel
        spelt as instruments do. The first that matches counts.
        """
        path = names.normalise(path)
        match = self._match(path)
        if match is None:
            return None
        facts = match.groupdict(default="")
        value = facts[self._dataset.label]
        if value not in self._dataset.classes:
            value = facts[self._dataset.label] = self._values.get(value.lower(), value)
        if "channel" in facts:
            facts["channel"] = plain_channel(facts["channel"])
        group = "_".join(facts[name] for name in self._dataset.group)
        if stated := find_label(self._labels, path):
            return ParsedPath(facts, stated.label, stated.group or group)
        return ParsedPath(facts, self._dataset.classes.get(value, value), group)

    def _match(self, path: str) -> re.Match[str] | None:
        if len(path) > names.MAX_PATH:
            return None
        match = self._pattern.search(path)
        if match is not None and not _begins_inside_a_word(match):
            return match
        plain = names.without_copy_marks(path)
        tries = (self._any_case.search(spelling) for spelling in (plain, names.with_plain_channel(plain)))
        other = next(filter(None, tries), None)
        return match if other is None or (match is not None and match.start() <= other.start()) else other

    def relabel(self, path: str, label: str) -> str | None:
        """Return `path` with the class `label` in it; None where the pattern does not match, or cannot say that class.

        The path is returned as the pattern reads it, without the marks of a copy for example.
        """
        codes = {name: value for value, name in self._dataset.classes.items()}
        match = self._match(names.normalise(path))
        if match is None or label not in codes:
            return None
        start, end = match.span(self._dataset.label)
        changed = match.string[:start] + codes[label] + match.string[end:]
        parsed = self.read(changed)
        return changed if parsed and parsed.label == label else None

    def read_name(self, path: str) -> ImageName:
        """Return the object number and the channel of `path`: by the pattern, else as its name is usually written."""
        return self._names(path)

    def _read_name(self, path: str) -> ImageName:
        path = names.normalise(path)
        match = self._match(path)
        if match is None:
            return names.read_name(path)
        groups = match.re.groupindex
        number = match["object"] if "object" in groups else None
        channel = plain_channel(match["channel"] or "") if "channel" in groups else None
        return ImageName(names.plain_object(number or ""), channel)

    def read_native(self, path: str, channel: int) -> ParsedPath | None:
        """Return what the path of a native file encodes for all its objects, None where it says nothing.

        The pattern is tried on the path, and on those that images have that IDEAS exports of an object of the file, or
        of one that is called like its folder; the groups `object` and `channel` need not be in the path of the file.
        What a sidecar says of the file counts.
        """
        path = names.normalise(path)
        stem, _, _ = path.rpartition(".")
        folder, _, _ = stem.rpartition("/")
        exported = (
            f"{start}0{channel_name}{ending}"
            for start in (f"{stem}_", f"{stem}/", *((f"{folder}/", f"{folder}_") if folder else ()))
            for channel_name in (f"_Ch{channel}", "")
            for ending in _EXPORTED_ENDINGS
        )
        parsed = next((found for spelling in (path, *exported) if (found := self.read(spelling))), None)
        stated = find_label(self._labels, path)
        if stated is None:
            return parsed
        known = parsed or ParsedPath(dict.fromkeys(self._pattern.groupindex, ""), "", "")
        return ParsedPath(known.facts, stated.label, stated.group or known.group)

    def class_of(self, value: str) -> str | None:
        """Return the class that a value of the label group stands for, or that has this name; None where none has."""
        value = self._values.get(value.lower(), value)
        if value in self._dataset.classes:
            return self._dataset.classes[value]
        return next((name for name in self._dataset.classes.values() if name.lower() == value.lower()), None)

    def is_input(self, parsed: ParsedPath) -> bool:
        """Return whether an image is of a channel that the model gets."""
        return self.input_index(parsed) is not None

    def input_index(self, parsed: ParsedPath) -> int | None:
        """Return the place of an image among those that the model gets of a cell, None where it gets none of it."""
        if not self._dataset.inputs:
            return 0
        return self.channel_index(parsed.facts["channel"])

    def channel_index(self, channel: str) -> int | None:
        """Return the place of a channel among those that the model gets, None where it does not get it."""
        places = (i for i, name in enumerate(self._dataset.inputs) if names.same_channel(channel, name))
        return next(places, None)

    def object_key(self, path: str) -> str:
        """Return `path` without its channel, which is equal for all files of one object."""
        match = self._match(names.normalise(path))
        if match is None:
            return names.without_channel(names.normalise(path))
        if "channel" not in self._pattern.groupindex or match.start("channel") < 0:
            return match.string
        start, end = match.span("channel")
        return f"{match.string[:start]}*{match.string[end:]}"


def _begins_inside_a_word(match: re.Match[str]) -> bool:
    """Return whether a match cuts a word in two, as `tro_1` of `Astro_1` where the pattern knows small letters only."""
    start = match.start()
    return 0 < start < match.end() and match.string[start - 1].isalnum() and match.string[start].isalnum()


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
