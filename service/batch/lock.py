"""One run at a time in a folder of results."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fatescope.errors import DataError

log = logging.getLogger(__name__)

LOCK = ".lock"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other runs out of the folder `out`, which is made where there is none; raises DataError if one is at work.

    Two that list the source at the same time would overwrite each other's listing.
    """
    out.mkdir(parents=True, exist_ok=True)
    with out.joinpath(LOCK).open("w", encoding="utf-8") as lock:
        try:
            # The lock goes with the process, however that ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{out}: another run is at work here; wait for its end, or name another folder") from error
        except OSError as error:
            # A file system without locks, such as some mounted buckets.
            log.warning("%s: cannot be locked (%s); start no second run here", out, error.strerror)
        yield
