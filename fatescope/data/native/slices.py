"""Read a .rif or .cif of which only slices are at hand, as a browser sends them, which nobody then holds whole.

Nothing is kept between two requests. The slices of a request hold the header of the file and some objects; its answer
says where reading stopped and which bytes the next request needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from fatescope.data.native.objects import Place
from fatescope.data.native.source import DamageError, Source

SLICE = 8_000_000
"""Bytes that are asked for where the next objects are."""
NEAR = 1 << 18
"""Bytes that are asked for where a directory is, or one part of an object that lies elsewhere."""
MAX_SLICES = 16
"""Slices that are asked for; where these do not do, what lies elsewhere counts as damaged."""
MAX_BYTES = 24_000_000
"""The same, bytes of all slices together."""
_PARTS = 4
"""Of a cursor as a text, each of at most so many digits:"""
_DIGITS = 18


class MissingBytesError(Exception):
    """What is read next is in the file, but not in the slices of it that are at hand."""

    def __init__(self, offset: int, size: int) -> None:
        super().__init__(f"{size:,} bytes at {offset:,}")
        self.offset, self.size = offset, size


@dataclass(frozen=True)
class Span:
    """A range of bytes, from `start` to before `stop`."""

    start: int
    stop: int


@dataclass(frozen=True)
class Cursor:
    """How far a file has been read."""

    place: Place
    """Of the last object that was reached."""
    answered: bool
    """Whether that object has been answered; otherwise it is the next one."""

    def __str__(self) -> str:
        return f"{self.place.index}-{self.place.object}-{self.place.offset}-{int(self.answered)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor that `str` wrote; raises ValueError for anything else."""
        parts = text.split("-")
        if len(parts) != _PARTS or not all(
            part.isascii() and part.isdecimal() and len(part) <= _DIGITS for part in parts
        ):
            raise ValueError(f"'{text[:100]}' is no place in a file; send the one of the answer before")
        index, number, offset, answered = map(int, parts)
        return cls(Place(index, number, offset), bool(answered))


class SlicedSource(Source):
    """The bytes of a file of `size` bytes in `slices`, of which each is its offset and its bytes."""

    def __init__(self, slices: Sequence[tuple[int, bytes]], size: int) -> None:
        """Take in the slices; raises ValueError where the file ends before one of them does."""
        if any(start < 0 or start + len(raw) > size for start, raw in slices):
            raise ValueError(f"a slice ends behind the {size:,} bytes of the file")
        self.size, self._slices = size, slices
        self.spans = [Span(start, start + len(raw)) for start, raw in slices]
        """Where the slices are."""
        self.used: list[Span] = []
        """What has been read so far."""
        self.gives_up = len(slices) >= MAX_SLICES or sum(len(raw) for _, raw in slices) >= MAX_BYTES
        """Whether what is not at hand counts as damaged, because asking for it has led nowhere."""

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`; raises DamageError beyond the end of the file, and MissingBytesError."""
        self.check(offset, size)
        for start, raw in self._slices:
            if start <= offset and offset + size <= start + len(raw):
                self.used.append(Span(offset, offset + size))
                return raw[offset - start : offset - start + size]
        if self.gives_up:
            raise DamageError(f"its parts lie too far apart to be sent in slices ({size:,} bytes at {offset:,})")
        raise MissingBytesError(offset, size)


def next_spans(
    source: SlicedSource,
    header: Sequence[Span],
    before: Cursor | None,
    after: Cursor | None,
    missing: MissingBytesError | None,
) -> list[Span]:
    """Return the bytes of the file that the next request needs, in ascending order.

    `header` is what was read of the header; `before` and `after` are how far the file was read before the slices and
    with them, None for not beyond the header; `missing` is what was not at hand, None where reading stopped for
    another reason.
    """
    if after is None or (missing and after == before):
        # Nothing was found. What was at hand is needed again, with what was not.
        assert missing is not None
        return merge([*source.spans, Span(missing.offset, missing.offset + max(missing.size, NEAR))], source.size)
    at = after.place.offset
    if missing is None or at <= missing.offset <= missing.offset + missing.size <= at + SLICE:
        return merge([*header, Span(at, at + SLICE)], source.size)
    ahead = Span(missing.offset, missing.offset + max(missing.size, SLICE))
    return merge([*header, Span(at, at + NEAR), ahead], source.size)


def merge(spans: Sequence[Span], size: int) -> list[Span]:
    """Return the same bytes of a file of `size` bytes in ascending order, in as few spans as possible."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        stop = min(span.stop, size)
        if merged and span.start <= merged[-1].stop:
            merged[-1] = Span(merged[-1].start, max(merged[-1].stop, stop))
        elif span.start < stop:
            merged.append(Span(span.start, stop))
    return merged
