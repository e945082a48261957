"""What the name of an image says, as people, instruments and file managers write it: channel and object number.

The page reads names in the browser by the same rules, `service/page/names.js`; `tests/page/names.json` holds both
to the same answers.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fatescope.config.names import plain_channel

MAX_DIGITS: Final = 15
"""Longest object number that is believed: all of them are exact as 64-bit floating point numbers."""
MAX_PATH: Final = 1024
"""Characters of the longest path that is read: to search a longer one, as an entry of a zip may have, takes minutes."""
_MAX_PART: Final = 255
"""Characters of the longest name that a file or folder may have."""

_SYSTEM_NAMES: Final = frozenset(
    {"__macosx", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "@eadir"}
    | {"system volume information", "icon\r"}
)
"""Files and folders that operating systems add, in lower case."""

# What file managers and browsers add to the name of a copy: "x - Copy (2).tif", "x copy 2.tif", "x (1).tif".
_COPY: Final = re.compile(
    r"(?:(?:\s+-\s+|\s+)(?:copy|kopie|copie|copia)(?:\s*\(\d+\)|\s+\d+)?|\s*\(\d+\))+(?=(?:\.[a-z0-9]+)*$)",
    re.IGNORECASE,
)
_COPY_OF: Final = re.compile(r"^(?:copy of|kopie von|copie de|copia de)\s+", re.IGNORECASE)
_SUFFIX: Final = re.compile(r"(?:\.ome)?\.[^.]*$", re.IGNORECASE)
# Ch1, ch_01, Channel 2. As C1 only at the end of a longer name or, from ImageJ, before it: C1 is also a well or a cell.
_CHANNEL: Final = re.compile(r"(?:^|[^a-z])(?:channel|chan|ch)[ _.-]*(\d{1,3})(?![0-9a-z])", re.IGNORECASE)
_LAST_C: Final = re.compile(r"[^a-z0-9]c(\d{1,2})$", re.IGNORECASE)
_FIRST_C: Final = re.compile(r"^c(\d{1,2})(?=-)", re.IGNORECASE)
_CHANNEL_FOLDER: Final = re.compile(r"^(?:channel|chan|ch)[ _.-]*(\d{1,3})$", re.IGNORECASE)
_LAST_NUMBER: Final = re.compile(r"(?:^|[^a-z0-9])(\d+)$", re.IGNORECASE)
_ONLY_NUMBER: Final = re.compile(r"^[ _.-]*(\d+)[ _.-]*$")
_SEPARATORS: Final = " _.-"


@dataclass(frozen=True)
class ImageName:
    """What the name of an image says of it."""

    object: int | None
    """The instrument's number for the cell."""
    channel: str | None
    """The channel, without leading zeros."""


def normalise(path: str) -> str:
    """Return a path with `/` between folders, whatever the system that wrote it, and composed Unicode (NFC)."""
    path = path.replace("\\", "/")
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def is_system_file(path: str) -> bool:
    """Return whether a path, with `/`, is hidden, or of a file that an operating system or an open editor adds."""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.startswith("~$") or part.lower() in _SYSTEM_NAMES
        for part in path.split("/")
    )


def is_too_long(path: str) -> bool:
    """Return whether no disk takes a file of this path, with `/`."""
    return len(path) > MAX_PATH or any(len(part) > _MAX_PART for part in path.split("/"))


def without_copy_marks(path: str) -> str:
    """Return a path, with `/`, under the name that the file had before it was copied or downloaded twice."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + _COPY.sub("", _COPY_OF.sub("", name))


def same_channel(one: str, other: str) -> bool:
    """Return whether two spellings are of the same channel, such as `01` and `1`."""
    return plain_channel(one) == plain_channel(other)


def other_channels(channels: Iterable[int], wanted: Sequence[str]) -> list[tuple[int, str]]:
    """Return those of the `channels` of a native file that differ from the `wanted` ones, each with the one wanted."""
    pairs = zip(channels, wanted, strict=bool(wanted))
    return [(channel, name) for channel, name in pairs if not same_channel(str(channel), name)]


def plain_object(number: str) -> int | None:
    """Return an object number, None where it is none, or too long to be one."""
    return int(number) if number.isascii() and number.isdecimal() and len(number) <= MAX_DIGITS else None


def with_plain_channel(path: str) -> str:
    """Return a path, with `/`, with the channel in its name spelt as instruments do, such as `_Ch1`."""
    folder, slash, name = path.rpartition("/")
    found = _find_channel(_SUFFIX.sub("", name))
    if found is None:
        return path
    start, end, channel = found
    before = name[:start].rstrip(_SEPARATORS)
    return f"{folder}{slash}{before}{'_' if before else ''}Ch{channel}{name[end:]}"


def read_name(path: str) -> ImageName:
    """Return what a path, with `/`, says where no pattern reads it.

    The channel is that of the name, else that of the nearest folder called after one; the object is the number before
    the channel, or a name that is nothing but a number and a channel.
    """
    if len(path) > MAX_PATH:
        return ImageName(None, None)
    *folders, name = without_copy_marks(path).split("/")
    stem = _SUFFIX.sub("", name)
    found = _find_channel(stem)
    if found is None:
        matches = (_CHANNEL_FOLDER.search(folder) for folder in reversed(folders))
        channel = next((plain_channel(match[1]) for match in matches if match), None)
        number = _ONLY_NUMBER.search(stem)
    else:
        start, end, channel = found
        number = _LAST_NUMBER.search(stem[:start].rstrip(_SEPARATORS)) or _ONLY_NUMBER.search(stem[:start] + stem[end:])
    return ImageName(plain_object(number[1]) if number else None, channel)


def without_channel(path: str) -> str:
    """Return a path, with `/`, without the channel that `read_name` finds: equal for all files of one object."""
    *folders, name = without_copy_marks(path).split("/")
    found = _find_channel(_SUFFIX.sub("", name)) if len(path) <= MAX_PATH else None
    if found is not None:
        name = f"{name[: found[0]]}*{name[found[1] :]}"
    else:
        place = max((i for i, folder in enumerate(folders) if _CHANNEL_FOLDER.search(folder)), default=None)
        if place is not None:
            folders[place] = "*"
    return "/".join([*folders, name])


def _find_channel(stem: str) -> tuple[int, int, str] | None:
    """Return where the channel in a name begins and ends, and the channel; None where the name has none."""
    match = None
    for match in _CHANNEL.finditer(stem):  # noqa: B007  the last one
        pass
    match = match or _LAST_C.search(stem) or _FIRST_C.search(stem)
    if match is None:
        return None
    # A character that only bounds the channel is part of the match.
    start = match.start() + (0 if match[0][0].lower() == "c" else 1)
    return start, match.end(), plain_channel(match[1])
