"""How the paths of an export are built: folders and parts of names, and the pattern that reads them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fatescope.data import features, names
from fatescope.data.native.names import is_native
from pipelines.ingestion.proposal import tokens
from pipelines.ingestion.proposal.tokens import Column

IMAGE = re.compile(r"(\.ome)?\.(tiff?|png|bmp|jpe?g)$", re.IGNORECASE)
LABEL = "label"
"""The named group of a class that nothing else names."""
_NATIVE = re.compile(r"\.(cif|rif)$", re.IGNORECASE)
_RESERVED = {
    "cell_id", "group", "path", "sha256", "page", "height", "width", "bit_depth", "pixel_hash", "object", "channel",
    LABEL, *features.ACQUISITION,
}  # fmt: skip
"""Columns of the manifest that no fact may take."""


@dataclass(frozen=True, eq=False)
class Part:
    """One part of all paths."""

    level: int
    """The folder that it is in the name of, from 0; of the file itself, the number of folders."""
    before: str
    """The pattern of what stands between it and the part before, in one name."""
    column: Column


@dataclass(frozen=True)
class Layout:
    """What the paths of images, or of native files, have in common."""

    paths: list[str]
    """Those that are built alike; row i of every column is of paths[i]."""
    others: list[str]
    """Those in other depths."""
    parts: list[Part]
    channel: Part | None
    object: Part | None
    """None where nothing numbers the cells."""
    depth: int
    """Folders above a file, those that are the same for all included."""
    native: bool
    """Whether these are native files of instruments."""

    @cached_property
    def facts(self) -> list[Part]:
        """Return the parts that say something of the sample: all but words that are the same everywhere.

        Of parts that say the same, such as a folder that is called like its files, the last one.
        """
        facts = dict[tuple[str, ...], Part]()
        for part in self.parts:
            column, constant = part.column, part.column.is_constant and part.column.kind in ("text", "mixed")
            if part is self.object or column.kind == "channel" or constant:
                continue
            key = tuple(value.lower() for value in column.values) if column.kind != "dayrun" else ("dayrun",)
            facts[key] = part
        return [part for part in self.parts if part in facts.values()]

    def names(self, label: Part | None) -> dict[Part, str]:
        """Return the named group of each fact; that of the class is LABEL."""
        named, taken = dict[Part, str](), set(_RESERVED) | {"day", "run"}
        for part in self.facts:
            if part is label:
                named[part] = LABEL
                continue
            kind, wanted = part.column.kind, part.column.name
            if kind == "dayrun":
                named[part] = "day"
                continue
            if not wanted:
                wanted = "number" if kind == "number" else "sample" if part.level < self.depth else "part"
            free = wanted in ("day", "run") and wanted not in named.values() and not self._has_dayrun
            number = 1
            while not free and (name := wanted if number == 1 else f"{wanted}{number}") in taken:
                number += 1
            named[part] = wanted if free else name
            taken.add(named[part])
        return named

    @cached_property
    def _has_dayrun(self) -> bool:
        return any(part.column.kind == "dayrun" for part in self.parts)

    def pattern(self, label: Part | None) -> str:
        """Return the regular expression that reads the paths, with `label` as the class."""
        named, text = self.names(label), ""
        first = min((part.level for part in (*named, self.object, self.channel) if part), default=self.depth)
        for level in range(first, self.depth + 1):
            of_level = [part for part in self.parts if part.level == level]
            text += "".join(part.before + self._regex(part, named) for part in of_level) or r"[^/]+"
            text += "/" if level < self.depth else ""
        return rf"(?:^|/){text}{self.ending()}$"

    def _regex(self, part: Part, named: dict[Part, str]) -> str:
        if self.native and not named and part.level == self.depth:
            # So that the next file, which is called otherwise, is read too.
            return "(?P<sample>[^/]+?)" if part is next(p for p in self.parts if p.level == self.depth) else ""
        if part is self.object:
            return _number(part.column)
        if part is self.channel:
            return part.column.regex.format(name="channel")
        if part in named:
            return _label_before(part, named) + part.column.regex.format(name=named[part])
        return _unnamed(part.column)

    def ending(self) -> str:
        """Return the pattern of the end of names."""
        if self.native:
            # Of the file itself, or of the images that are exported of it.
            return r"(?:\.(?:cif|rif)|[_/](?P<object>\d+)_Ch(?P<channel>\d+)(?:\.ome)?\.tiff?)"
        endings = [match for path in self.paths if (match := IMAGE.search(path))]
        kinds = sorted({match[2].lower() for match in endings})
        ome = {bool(match[1]) for match in endings}
        start = r"(?:\.ome)?" if len(ome) > 1 else r"\.ome" if ome == {True} else ""
        return rf"{start}\.(?:{'|'.join(kinds)})" if len(kinds) > 1 else rf"{start}\.{kinds[0]}"


def _number(column: Column) -> str:
    """Return the pattern of the part that numbers the cells."""
    if column.kind in ("number", "prefixed", "keyed"):
        return rf"{re.sub(r'[0-9]+$', '', column.values[0])}(?P<object>\d+)"
    return r"(?P<object>[^/]+?)"


def _unnamed(column: Column) -> str:
    """Return the pattern of a part that is no fact: the same everywhere, or what another part says too."""
    if column.is_constant:
        return re.escape(column.values[0]).replace(r"\-", "-").replace(r"\ ", " ")
    return re.sub(r"\(\?P<[^>]*>([^()]*)\)", r"\1", column.regex).format()


def _label_before(part: Part, named: dict[Part, str]) -> str:
    """Return the pattern of a class that some names of a part begin with, such as `InfectedP07` beside `P07`."""
    label = next((other for other, name in named.items() if name == LABEL), None)
    if label is None or label is part or part.column.kind not in ("text", "mixed"):
        return ""
    begun = {
        value
        for value in {*label.column.values}
        if len(value) > 2 and any(name.lower().startswith(value.lower()) for name in part.column.distinct)
    }
    return rf"(?:{'|'.join(sorted(map(re.escape, begun)))})?" if begun else ""


def is_image(path: str) -> bool:
    """Return whether a path is called like an image."""
    return IMAGE.search(path) is not None


def infer(paths: Sequence[str]) -> Layout | None:
    """Return how most of `paths`, all of images or all of native files, are built; None without any."""
    native = bool(paths) and all(is_native(path) for path in paths)
    plain = [names.with_plain_channel(path) if not native else path for path in map(_plain, paths)]
    if not plain:
        return None
    depth = Counter(path.count("/") for path in plain).most_common(1)[0][0]
    chosen = [i for i, path in enumerate(plain) if path.count("/") == depth]
    rows = [plain[i].split("/") for i in chosen]
    parts = list[Part]()
    for level in range(depth):
        parts += [
            Part(level, before, column) for before, column in tokens.columns([row[level] for row in rows], folder=True)
        ]
    suffix = _NATIVE if native else IMAGE
    stems = [suffix.sub("", row[-1]) for row in rows]
    parts += [Part(depth, before, column) for before, column in tokens.columns(stems, folder=False)]
    channel = next((part for part in reversed(parts) if part.column.kind == "channel"), None)
    number = None if native else _object(parts, channel, depth)
    kept = [paths[i] for i in chosen]
    known = set(chosen)
    others = [path for i, path in enumerate(paths) if i not in known]
    return Layout(kept, others, parts, channel, number, depth, native)


def _plain(path: str) -> str:
    return names.without_copy_marks(names.normalise(path))


def _object(parts: list[Part], channel: Part | None, depth: int) -> Part | None:
    """Return the part of the name of a file that numbers the cells: the last one that is no channel and no word."""
    of_name = [part for part in parts if part.level == depth and part is not channel]
    varied = [part for part in of_name if not part.column.is_constant]
    numbers = [part for part in varied if part.column.kind in ("number", "prefixed", "keyed")]
    if numbers:
        return numbers[-1]
    return next((part for part in reversed(of_name) if part.column.kind == "number"), varied[-1] if varied else None)
