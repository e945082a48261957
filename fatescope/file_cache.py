"""What was read of files that are only ever replaced as a whole, kept until they are."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_Version = tuple[int, int, int, int]


class FileCache(Generic[T]):
    """Reads groups of files, each again only where it was replaced; may be called by several threads.

    What is returned is shared by all who ask: it must not be changed.
    """

    def __init__(self, read: Callable[[Path], T], groups: int = 8) -> None:
        """`read` reads a file; of so many `groups`, those that were asked for last, what was read is kept."""
        self._read, self._most = read, groups
        self._lock = threading.Lock()
        self._groups = OrderedDict[Hashable, dict[Path, tuple[_Version, T]]]()

    def read(self, group: Hashable, paths: Iterable[Path]) -> list[T]:
        """Return the content of the `paths`, which are all that `group` has now; one that is deleted is left out.

        Nothing is kept of a file that the group had before, so that what was deleted is in no memory either.
        """
        with self._lock:
            known = self._groups.get(group, {})
        kept = dict[Path, tuple[_Version, T]]()
        for path in paths:
            try:
                # Before it is read: what replaces it meanwhile is read the next time.
                version = _version(path)
                old = known.get(path)
                kept[path] = old if old and old[0] == version else (version, self._read(path))
            except FileNotFoundError:
                continue
        with self._lock:
            self._groups[group] = kept
            self._groups.move_to_end(group)
            while len(self._groups) > self._most:
                self._groups.popitem(last=False)
        return [content for _, content in kept.values()]


def _version(path: Path) -> _Version:
    """Return what differs once a file has been replaced; its time of change may be set to that of the one before."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size
