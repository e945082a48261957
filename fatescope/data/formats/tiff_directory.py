"""The directories of a TIFF, classic or BigTIFF, as the bytes of the file announce them (Adobe TIFF 6.0, section 2)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple

WIDTH, HEIGHT, BITS, SAMPLES = 256, 257, 258, 277
COMPRESSION, PHOTOMETRIC, PLANAR, DEPTH = 259, 262, 284, 32997
SUBFILE, OLD_SUBFILE, DESCRIPTION, ORIENTATION, SUB_DIRECTORIES = 254, 255, 270, 274, 330
STRIP_OFFSETS, STRIP_SIZES, FILL_ORDER, PALETTE, SAMPLE_FORMAT = 273, 279, 266, 320, 339
METAMORPH_PLANES, AMNIS_OBJECTS = 33629, 33018
AMNIS_OBJECT, AMNIS_FLOW_SPEED, AMNIS_LINE, AMNIS_TIMER, AMNIS_ACQUIRED = 33003, 33012, 33016, 33017, 33024
AMNIS_FACTS = {AMNIS_OBJECT, AMNIS_LINE, AMNIS_TIMER, AMNIS_ACQUIRED}
"""What images say of their acquisition that IDEAS exported."""
TILE_WIDTH, TILE_HEIGHT = 322, 323

_STRICT = {WIDTH, HEIGHT, BITS, SAMPLES, COMPRESSION, PHOTOMETRIC, PLANAR, DEPTH, PALETTE, TILE_WIDTH, TILE_HEIGHT}
"""What decides how a decoder understands the pixels."""
_NUMBERS = {*_STRICT, SUBFILE, OLD_SUBFILE, ORIENTATION, FILL_ORDER, SAMPLE_FORMAT, AMNIS_OBJECTS, *AMNIS_FACTS}
"""Tags of which the first value is wanted."""
_LISTS = {SUB_DIRECTORIES, STRIP_OFFSETS, STRIP_SIZES, PALETTE, METAMORPH_PLANES, AMNIS_FLOW_SPEED}
"""Tags of which all values are wanted, by few callers."""
_WANTED = _NUMBERS | _LISTS | {DESCRIPTION}
_TYPES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 13: ("I", 4), 16: ("Q", 8), 18: ("Q", 8)}
"""Type → how `struct` spells it, and its bytes; 16 and 18 are of BigTIFF."""
_NUMBER_OF = {order: {kind: struct.Struct(order + code) for kind, (code, _) in _TYPES.items()} for order in "<>"}
"""Byte order and type → what reads a number: a directory has a dozen, and to look up a format takes longer."""
DOUBLE = 12
"""A type that only AMNIS_FLOW_SPEED has here."""
DAMAGES = (struct.error, KeyError, ValueError, OverflowError)
"""What reading a damaged directory raises."""
_MAX_TILE = 4096 * 4096
"""Largest tile, px: libtiff makes room for one, however small the image is."""
_MAX_ENTRIES = 0xFFFF
"""What libtiff reads; a classic TIFF cannot have more."""
_MAX_DESCRIPTION = 100_000
"""Bytes of a description that are searched; the OME-XML of a single cell has a few thousand."""
_MAX_FIRST_DESCRIPTION = 2_000_000
"""Of the description on the first page, which may be of a whole stack: OME-XML has some 100 bytes for each plane."""


@dataclass(frozen=True)
class Layout:
    """How the two kinds of TIFF spell a directory."""

    order: str
    """`<` or `>`, as in `struct`."""
    first: int
    """Where the file says where its first directory is, bytes."""
    count: str
    """The number of entries."""
    entry: str
    """An entry: its tag, type and count, and room for values that is passed over."""
    head: int
    """Bytes of the first three."""
    pointer: str
    """An offset, or values that fit into its place."""
    room: int
    """Bytes of that."""
    strict_types: tuple[int, ...]
    """Types that a size may have."""


_LAYOUTS = {
    b"II*\0": Layout("<", 4, "<H", "<HHI4x", 8, "<I", 4, (3, 4)),
    b"MM\0*": Layout(">", 4, ">H", ">HHI4x", 8, ">I", 4, (3, 4)),
    b"II+\0": Layout("<", 8, "<Q", "<HHQ8x", 12, "<Q", 8, (3, 4, 16)),
    b"MM\0+": Layout(">", 8, ">Q", ">HHQ8x", 12, ">Q", 8, (3, 4, 16)),
}


class Entry(NamedTuple):
    """Where a directory has the values of a tag."""

    kind: int
    """Type of the values."""
    total: int
    """How many there are."""
    start: int
    """Bytes from the start of the file."""


@dataclass(frozen=True)
class Directory:
    """What one directory of a TIFF says of its image."""

    layout: Layout
    offset: int
    """Bytes from the start of the file."""
    entries: dict[int, Entry]
    """Tag → its values, where several are of use."""
    numbers: dict[int, int]
    """Tag → its first value."""
    descriptions: list[bytes]
    """Micro-Manager writes two. Left out of a pickle: pixels are decoded without them, and they may be long."""

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "descriptions": []}

    @property
    def height(self) -> int:
        """Px, as stored; raises KeyError where the directory has none."""
        return self.numbers[HEIGHT]

    @property
    def width(self) -> int:
        """Px, as stored; raises KeyError where the directory has none."""
        return self.numbers[WIDTH]

    @property
    def bits(self) -> int:
        """Bits in which a value is stored."""
        return self.numbers.get(BITS, 1)

    @property
    def samples(self) -> int:
        """Values per pixel."""
        return self.numbers.get(SAMPLES, 1)

    @property
    def is_copy(self) -> bool:
        """Whether this is a thumbnail of another image, or a mask."""
        reduced_or_mask = self.numbers.get(SUBFILE, 0) & 0b101 or self.numbers.get(OLD_SUBFILE) == 2
        return bool(reduced_or_mask) or self.numbers.get(PHOTOMETRIC) == 4

    def count(self, tag: int) -> int:
        """Return how many values a tag has."""
        return self.entries[tag].total if tag in self.entries else 0

    def values(self, raw: bytes | bytearray | mmap, tag: int) -> tuple[int, ...]:
        """Return all values of a tag; raises struct.error where the file ends before them."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _TYPES:
            return ()
        code, size = _TYPES[entry.kind]
        if entry.start + entry.total * size > len(raw):
            raise struct.error(f"the file ends within the values of its tag {tag}")
        return struct.unpack_from(f"{self.layout.order}{entry.total}{code}", raw, entry.start)


def layout_of(raw: bytes | bytearray) -> Layout | None:
    """Return how a TIFF spells its directories, None where the bytes are no TIFF."""
    return _LAYOUTS.get(bytes(raw[:4]))


def read_chain(raw: bytes, layout: Layout) -> Iterator[Directory]:
    """Yield the directories that follow each other; raises one of DAMAGES for damaged ones."""
    visited, texts = set[int](), _Texts(raw)
    (offset,) = struct.unpack_from(layout.pointer, raw, layout.first)
    while offset:
        if offset in visited:
            raise ValueError("its directories form a cycle")
        texts.longest = _MAX_DESCRIPTION if visited else _MAX_FIRST_DESCRIPTION
        visited.add(offset)
        directory, offset = read_directory(raw, layout, offset, texts)
        yield directory


class _Texts:
    """The descriptions of a file, each of which is kept once, however many pages have it."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._known: dict[tuple[int, int], bytes] = {}
        self._kept = 0
        self.longest = _MAX_DESCRIPTION

    def read(self, start: int, length: int) -> bytes:
        """Return the text at `start`, its first `longest` bytes at most; raises ValueError for texts that overlap."""
        place = start, min(length, self.longest)
        if place not in self._known:
            self._known[place] = self._raw[start : start + place[1]]
            self._kept += len(self._known[place])
            # Pages that each have their own, or share one, never do; others would take gigabytes.
            if self._kept > len(self._raw):
                raise ValueError("its descriptions overlap")
        return self._known[place]


def read_directory(raw: bytes, layout: Layout, offset: int, texts: _Texts | None = None) -> tuple[Directory, int]:
    """Return the directory at `offset`, and where the next one is; 0 after the last.

    `texts` are the descriptions of the file that were read before.
    A tag that decides about the pixels and is given twice or has an unusual type raises ValueError: a decoder might
    interpret it in another way, and decode gigabytes where the header announced a few pixels.
    """
    (count,) = struct.unpack_from(layout.count, raw, offset)
    if count > _MAX_ENTRIES:
        raise ValueError(f"a directory announces {count:,} entries")
    texts = texts or _Texts(raw)
    start, step = offset + struct.calcsize(layout.count), layout.head + layout.room
    end = start + step * count
    if end > len(raw):
        raise struct.error("the file ends within a directory")
    entries, numbers, descriptions = dict[int, Entry](), dict[int, int](), list[bytes]()
    number_of = _NUMBER_OF[layout.order]
    places = range(start + layout.head, end, step)
    for place, (tag, kind, values) in zip(places, struct.iter_unpack(layout.entry, raw[start:end]), strict=True):
        if tag not in _WANTED:
            continue
        if tag in _STRICT and (kind not in layout.strict_types or tag in numbers or not values):
            raise ValueError(f"its tag {tag} is given twice, is empty, or is of type {kind}")
        code, size = _TYPES.get(kind, ("", 8 if kind == DOUBLE else 1))
        at = place if values * size <= layout.room else struct.unpack_from(layout.pointer, raw, place)[0]
        if tag == DESCRIPTION:
            descriptions.append(texts.read(at, values))
        if tag in _LISTS:
            entries[tag] = Entry(kind, values, at)
        if tag in _NUMBERS and code and values:
            (numbers[tag],) = number_of[kind].unpack_from(raw, at)
    tile = numbers.get(TILE_HEIGHT, 0), numbers.get(TILE_WIDTH, 0)
    if tile[0] * tile[1] > _MAX_TILE:
        raise ValueError(f"it announces tiles of {tile[0]}x{tile[1]} px")
    return Directory(layout, offset, entries, numbers, descriptions), struct.unpack_from(layout.pointer, raw, end)[0]


def read_orientation(exif: bytes) -> int:
    """Return the orientation in Exif data, which has the form of a TIFF; 1 where it has none or is damaged."""
    layout = layout_of(exif)
    try:
        return next(read_chain(exif, layout)).numbers.get(ORIENTATION, 1) if layout else 1
    except (*DAMAGES, StopIteration):
        return 1
