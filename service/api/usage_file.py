"""The file in which the gateways of a machine count uses of keys: a slot for each key, and a lock.

The lock is one of the system, which goes with the process however that ends. The file is read and written, not mapped:
the system ends a process that touches a part of a map whose file was cut off, or that finds no room on the disk. Where
the file was deleted or replaced, all go on with the one that is there.
"""

import fcntl
import logging
import os
import re
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.api import key_file

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

_SLOT = struct.Struct("<40s7q")
_SLOTS = 2048
_SIZE = 128
"""Bytes of a slot."""
_NAME, _DAMAGED = re.compile(key_file.NAME.encode()), b"-"
_MOST = 1 << 40
"""More than any count, and than the time for 30,000 years."""
_TOLD_S = 60.0
"""Time within which the same problem is told once."""


@dataclass
class Counts:
    """What a slot has: of the current period of the quota, and of an hour for the audit log."""

    name: bytes
    period: int = 0
    """Its beginning, seconds since the epoch, as that of the hour."""
    requests: int = 0
    cells: int = 0
    hour: int = 0
    accepted: int = 0
    refused: int = 0
    hour_cells: int = 0


class UsageFile:
    """The slots of a file; what is read and stored in one block of `locked` belongs to one thread."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, which is made with its folder if need be; raises OSError."""
        self._path = path
        self._file, self._identity = _open(path)
        self._offsets: dict[bytes, int] = {}
        self._told: dict[str, float] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other gateways from the file until the block ends; raises OSError where it cannot be locked."""
        self._lock()
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def find(self, name: bytes) -> tuple[int, Counts]:
        """Return the offset of the slot of a key, and what is in it.

        For a key without one, that is a free one; or, where none is, that of a key which has not been used for longest.
        """
        known = self._offsets.get(name)
        if known is not None:
            counts = _unpack(self._read(known, _SIZE))
            if counts.name == name:
                return known, counts
        taken = list(self.taken())
        own = next((slot for slot in taken if slot[1].name == name), None)
        if own is None:
            free = len(taken) * _SIZE, Counts(name)
            own = free if len(taken) < _SLOTS else min(taken, key=lambda slot: slot[1].hour)
        self._offsets[name] = own[0]
        return own

    def taken(self) -> Iterator[tuple[int, Counts]]:
        """Yield the slots that keys have, with their offsets; they are taken one after the other."""
        content = self._read(0, _SLOTS * _SIZE)
        for offset in range(0, len(content), _SIZE):
            counts = _unpack(content[offset : offset + _SIZE])
            if not counts.name:
                return
            yield offset, counts

    def _read(self, offset: int, size: int) -> bytes:
        """Return a part of the file, which may have been cut off."""
        try:
            return os.pread(self._file, size, offset)
        except OSError as error:
            self._note_problem(error)
            return b""

    def store(self, offset: int, counts: Counts) -> None:
        """Write a slot; what keeps it from that is logged."""
        try:
            os.pwrite(self._file, _SLOT.pack(*vars(counts).values()), offset)
        except OSError as error:
            self._note_problem(error)

    def _note_problem(self, error: OSError) -> None:
        """Say that uses are not counted, as on a full disk; no request is refused for it."""
        now = time.monotonic()
        if now - self._told.get(str(error), -_TOLD_S) >= _TOLD_S:
            self._told[str(error)] = now
            log.error("%s: uses of keys are not counted, quotas not kept: %s", self._path, error)

    def _lock(self) -> None:
        """Lock the file that the other gateways find too."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            while _identify(self._path) != self._identity:
                fresh, identity = _open(self._path)
                os.close(self._file)
                self._file, self._identity = fresh, identity
                # Another may have replaced it until it is locked.
                fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError as error:
            # What is open is counted in for as long as it lasts.
            self._note_problem(error)


def _open(path: Path) -> tuple[int, tuple[int, int]]:
    """Return a descriptor of the file, which is made if need be, and what it is known by; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    status = os.fstat(file)
    return file, (status.st_dev, status.st_ino)


def _identify(path: Path) -> tuple[int, int] | None:
    """Return what the file at a path is known by, None where there is none."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _unpack(slot: bytes) -> Counts:
    """Return what is in a slot, of which the end may be missing."""
    name, *counts = _SLOT.unpack_from(slot.ljust(_SLOT.size, b"\0"))
    name = name.rstrip(b"\0")
    if name and not _NAME.fullmatch(name):
        # Of a damaged file: it is counted anew, under a name that no key has.
        return Counts(_DAMAGED)
    return Counts(name, *counts) if all(0 <= count <= _MOST for count in counts) else Counts(name)
