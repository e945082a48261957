"""Delete old entries so that the rest can still be verified."""

from datetime import datetime
from pathlib import Path

from fatescope.audit_log.entries import RETENTION, Entry
from fatescope.audit_log.folder import FILE, locked, write
from fatescope.audit_log.reading import aliases
from fatescope.audit_log.writing import append_locked, user


def prune(folder: Path, before: datetime) -> int:
    """Delete the entries from before a time, and return how many; an entry vouches for those that are gone.

    It has the last `seq` and `hash` of them, with which the first remaining entry must go on, and the aliases then.
    """
    if not (folder / FILE).exists():
        return 0
    with locked(folder) as log:
        gone, rest = _older(folder, before)
        if not gone:
            return 0
        evidence = {
            "kind": "audit_log",
            "up_to": gone[-1].seq,
            "hash": gone[-1].hash,
            "aliases": sorted([*key, version] for key, version in aliases(gone).items()),
        }
        append_locked(folder, log, user(), RETENTION, "audit log", evidence)
        log.seek(rest)
        write(folder / FILE, log.read())
    return len(gone)


def _older(folder: Path, before: datetime) -> tuple[list[Entry], int]:
    """Return the entries from before a time but for the newest of all, and at which byte what stays begins."""
    gone, newest, place = list[Entry](), 0, 0
    with (folder / FILE).open("rb") as log:
        for line in log:
            entry = Entry.parse(line)
            if entry is not None:
                if datetime.fromisoformat(entry.time) >= before:
                    return gone, place
                gone.append(entry)
                newest = place
            place += len(line)
    # The next entry must go on from it.
    return gone[:-1], newest
