"""Random access to a file that is too large to be held: through one window, with an error beyond its end."""

from typing import IO

from fatescope import plural

SIGNATURE = b"II*\0"
"""Of a little-endian TIFF."""
WINDOW = 1 << 16
"""Bytes that are read at a time: some ten objects, which lie one after the other."""


class DamageError(Exception):
    """A part of a native file that cannot be read; `reader` says of which file and object."""


class Source:
    """The bytes of a file that can seek; reads ahead by `window` bytes."""

    def __init__(self, file: IO[bytes], window: int = WINDOW) -> None:
        self._file, self._ahead = file, window
        self._start, self._window = 0, b""
        self.size = file.seek(0, 2)

    def starts_as_tiff(self) -> bool:
        """Return whether the file begins with the signature that native files have."""
        return self.size >= len(SIGNATURE) and self.read(0, len(SIGNATURE)) == SIGNATURE

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`; raises DamageError where the file has no such bytes."""
        self.check(offset, size)
        begin = offset - self._start
        if begin < 0 or begin + size > len(self._window):
            try:
                self._file.seek(offset)
                # A file that shrinks while it is read gives fewer.
                self._start, self._window, begin = offset, self._file.read(max(size, self._ahead)), 0
            except OSError as error:
                raise DamageError(f"the file cannot be read: {error.strerror}") from error
        part = self._window[begin : begin + size]
        if len(part) < size:
            raise DamageError(f"the file ends within {plural.count(size, 'byte')} at {offset:,}")
        return part

    def check(self, offset: int, size: int) -> None:
        """Raise DamageError where the file has no `size` bytes at `offset`."""
        if offset < 0 or size < 0 or offset + size > self.size:
            has, asked = plural.count(self.size, "byte"), plural.count(size, "byte")
            raise DamageError(f"the file has {has}, but it refers to {asked} at {offset:,}")
