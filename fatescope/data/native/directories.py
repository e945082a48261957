"""The directories of a native file: little-endian classic TIFF, whose offsets wrap above 4 GiB.

Only what a native file needs is believed. A directory always lies behind the one that leads to it, so that no chain of
them can form a loop and an offset that has wrapped can be told; entries that break readers of TIFF are passed over.
"""

import struct
from typing import Self

from fatescope import plural
from fatescope.data.native.source import SIGNATURE, DamageError, Source

WIDTH, HEIGHT, COMPRESSION, STRIP_OFFSET, STRIP_SIZE, DATE = 256, 257, 259, 273, 279, 306
KIND, OBJECT, INSTRUMENT, CHANNEL_WIDTH, FLOW_SPEED, CAMERA_LINE, CAMERA_TIMER = (
    33002, 33003, 33006, 33009, 33012, 33016, 33017,
)  # fmt: skip
OBJECTS, ACQUIRED_OBJECT, ACQUISITION_FILES, ACQUISITION_XML, MERGED = 33018, 33024, 33026, 33027, 33029
BACKGROUND_MEAN, BACKGROUND_SD, SATURATED, SOFTWARE = 33052, 33053, 33054, 33066
HEADER_KIND, IMAGE_KIND, MASK_KIND = 1, 2, 3
IMAGES_COMPRESSED, MASKS_COMPRESSED = 30817, 30818

_FIRST = 8
WRAP = 1 << 32
"""Offsets are modulo this, bytes."""
_MAX_ENTRIES = 512
"""Files have up to 40."""
_MAX_NUMBERS = 4096
_ABSENT = 0, 0, 0
_TRIES = 8
_ENTRY = struct.Struct("<HHII")
_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


class Directory:
    """One directory: what it says of the file, of an image or of a mask.

    A file of a million objects has two million of them, so that none is read further than it is asked.
    """

    __slots__ = ("_entries", "_table", "following", "kind", "offset", "source", "stop")

    def __init__(self, source: Source, offset: int, raw: bytes) -> None:
        """Take in the `raw` entries of a directory at `offset`, and the pointer behind them."""
        self.source, self.offset, self.stop = source, offset, offset + 2 + len(raw)
        """Where it begins and where it ends, bytes from the start of the file."""
        self.following = int.from_bytes(raw[-4:], "little")
        """Where it says that the next one is, modulo 4 GiB; 0 for none."""
        self._entries = raw
        self._table: dict[int, tuple[int, int, int]] = {}
        self.kind = self._kind()
        """What it is of: the header, an image or a mask; 0 for none of these."""

    def index(self) -> Self:
        """Prepare to be asked for many tags; return this directory."""
        # The first of two entries of a tag counts, as in `entry`.
        rows = list(_ENTRY.iter_unpack(self._entries[:-4]))
        self._table = {row[0]: row[1:] for row in reversed(rows)}
        return self

    def entry(self, tag: int) -> tuple[int, int, int]:
        """Return type, number of values, and the values or their offset modulo 4 GiB; zeros where the tag is absent."""
        if self._table:
            return self._table.get(tag, _ABSENT)
        number, at = tag.to_bytes(2, "little"), -1
        for _ in range(_TRIES):
            at = self._entries.find(number, at + 1)
            if at < 0 or at + _ENTRY.size > len(self._entries):
                return _ABSENT
            if at % _ENTRY.size == 0:
                _, code, count, value = _ENTRY.unpack_from(self._entries, at)
                return code, count, value
        # Values that look like the tag all over are no accident.
        return self.index().entry(tag)

    def __contains__(self, tag: int) -> bool:
        return self.entry(tag) != _ABSENT

    def _kind(self) -> int:
        kind = self.number(KIND)
        if kind is None:
            kind = {IMAGES_COMPRESSED: IMAGE_KIND, MASKS_COMPRESSED: MASK_KIND}.get(self.number(COMPRESSION) or 0, 0)
        return kind

    def number(self, tag: int) -> int | None:
        """Return the first value of a tag that holds whole numbers, None where there is none."""
        code, count, value = self.entry(tag)
        if not count or code not in (1, 3, 4):
            return None
        if count * _SIZES[code] > 4:
            return int(self.numbers(tag)[0])
        return value & (0xFF, 0, 0xFFFF, 0xFFFFFFFF)[code - 1]

    def needed(self, tag: int) -> int:
        """Return the first value of a tag; raises DamageError where there is none."""
        number = self.number(tag)
        if number is None:
            raise DamageError(f"its tag {tag} is missing or of another type")
        return number

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Return all values of a tag, none where it is absent; raises DamageError where they are not in the file."""
        code, count, value = self.entry(tag)
        if code not in _TYPES or not count:
            return ()
        if count > _MAX_NUMBERS:
            raise DamageError(f"its tag {tag} announces {count:,} values")
        return struct.unpack(f"<{count}{_TYPES[code]}", self._bytes(tag, count * _SIZES[code], value))

    def decimal(self, tag: int) -> float | None:
        """Return the first value of a tag, None where there is none."""
        values = self.numbers(tag)
        return float(values[0]) if values else None

    def text(self, tag: int, longest: int) -> str:
        """Return the text of a tag, empty where there is none; raises DamageError for one that is too long."""
        raw = self.raw(tag, longest)
        return raw.split(b"\0")[0].decode("utf-8", "replace").strip()

    def raw(self, tag: int, longest: int) -> bytes:
        """Return the bytes of a tag; raises DamageError where there are more than `longest`."""
        code, count, value = self.entry(tag)
        size = count * _SIZES.get(code, 1)
        if size > longest:
            raise DamageError(f"its tag {tag} announces {size:,} bytes")
        return self._bytes(tag, size, value)

    def _bytes(self, tag: int, size: int, value: int) -> bytes:
        if size <= 4:
            return value.to_bytes(4, "little")[:size]
        try:
            return self.source.read(self.nearest(value), size)
        except DamageError as error:
            raise DamageError(f"its tag {tag} cannot be read: {error}") from error

    def nearest(self, offset: int) -> int:
        """Return the place that an `offset` modulo 4 GiB means: the one that is nearest to this directory."""
        turns = (self.offset - offset + WRAP // 2) // WRAP
        return offset + max(turns, 0) * WRAP

    @property
    def end(self) -> int:
        """Return where the last byte ends that this directory refers to; there a program writes the next one."""
        last = self.stop
        for tag, code, count, value in _ENTRY.iter_unpack(self._entries[:-4]):
            size = count * _SIZES.get(code, 1)
            if size > 4:
                last = max(last, self.nearest(value) + size)
            elif tag == STRIP_OFFSET:
                last = max(last, self.nearest(value) + (self.number(STRIP_SIZE) or 0))
        return last


def read_first(source: Source) -> Directory:
    """Return the first directory of a file; raises DamageError where the file is no native one."""
    head = source.read(0, min(_FIRST, source.size))
    if not head.startswith(SIGNATURE) or len(head) < _FIRST:
        size = plural.count(source.size, "byte")
        raise DamageError(f"it starts with {head[:4]!r} and has {size}, which is no such file")
    header = read_directory(source, int.from_bytes(head[4:], "little"))
    if header.kind != HEADER_KIND and OBJECTS not in header:
        raise DamageError("its first directory is not the header of a .rif or .cif")
    return header


def read_directory(source: Source, offset: int) -> Directory:
    """Return the directory at `offset`; raises DamageError where there is none."""
    entries = int.from_bytes(source.read(offset, 2), "little")
    if not 0 < entries <= _MAX_ENTRIES:
        raise DamageError(f"what should be a directory at {offset:,} announces {entries:,} entries")
    return Directory(source, offset, source.read(offset + 2, _ENTRY.size * entries + 4))


def read_next(directory: Directory, *, expected: bool) -> Directory | None:
    """Return the directory that follows, None after the last one.

    Where the pointer to it is damaged, it is sought where programs write it: behind all that the one before it refers
    to. `expected` says that there is one, whatever the pointer says. Raises DamageError where it cannot be found.
    """
    if not directory.following and not expected:
        return None
    problem = DamageError("the chain of directories ends too early")
    following = directory.following
    # The next turn where it has wrapped; a pointer that leads back, as in a loop, leads beyond the end of the file.
    offset = following + max(0, -((following - directory.stop) // WRAP)) * WRAP
    for way in ("pointer", "end") if following else ("end",):
        try:
            place = offset if way == "pointer" else directory.end
            found = read_directory(directory.source, place)
            if place >= directory.stop and found.kind in (IMAGE_KIND, MASK_KIND):
                return found
            problem = DamageError(f"there is no directory of an object at {place:,}")
        except DamageError as error:
            problem = error
    raise problem
