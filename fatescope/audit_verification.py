"""Verify the chain of the audit log, and name the first line that is not as it was written.

| what was done | how it shows |
|---|---|
| a line was edited | its hash is another one |
| a line was edited, and its hash made again | the line behind it does not go on from it |
| lines were removed, added or reordered | the numbers have a gap, or a line does not go on from the one before |
| the end was removed, or all from a line on written anew | `head.json` is of an entry that is not there |
| that, and `head.json` was written anew | a head that was kept elsewhere is of an entry that is not there |

What nobody has kept elsewhere can be written anew by whoever may write to the folder: a log that is forged from some
entry on, with its head, is only told from the true one by a kept head of that entry or a later one. Neither does the
chain say whether what an entry says was true, or whether something was never entered.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fatescope import plural
from fatescope.audit_log import FILE, HEAD, RETENTION, START, AuditLogError, Entry, Head, locked, read_head
from fatescope.errors import DataError

MIN_DIGITS = 12
"""Of a kept hash."""


@dataclass(frozen=True)
class Damage:
    """The first line that is not as it was written."""

    line: int
    """From 1; one more than there are where the end is missing."""
    reason: str


@dataclass(frozen=True)
class Verification:
    """What a verification found."""

    entries: int
    head: Head | None
    """Of the last line that can be read."""
    damage: Damage | None


def parse_head(text: str) -> Head:
    """Return a kept head, `SEQ:HASH`, of whose hash 12 digits are enough; raises DataError."""
    seq, _, digest = text.strip().lower().partition(":")
    if not seq.isdecimal() or len(digest) < MIN_DIGITS or set(digest) - set("0123456789abcdef"):
        raise DataError(f"'{text}' is not SEQ:HASH; give what `fatescope audit-log head` printed")
    return Head(int(seq), digest)


def verify(folder: Path, kept: Head | None = None) -> Verification:
    """Verify the log in `folder`, also against a head that was `kept` elsewhere; raises DataError without a log."""
    path = folder / FILE
    if not path.exists():
        if read_head(folder) is None:
            raise DataError(f"{path}: there is no audit log; set FATESCOPE_AUDIT_LOG to its folder")
        return Verification(0, None, Damage(1, f"the log is gone, of which {HEAD} says that it had entries"))
    with ExitStack() as stack:
        log, size, head = _take(folder, stack)
        number, last, at_kept = 0, None, None
        for number, line in enumerate(_lines(log, size), 1):
            entry = Entry.parse(line)
            damage = _check(number, entry, last, line, log, size)
            if damage or entry is None:
                return Verification(number + sum(1 for _ in _lines(log, size)), last.head if last else None, damage)
            if kept and entry.seq == kept.seq:
                at_kept = number, entry
            last = entry
    damage = _check_end(number, last, head) or (_check_kept(at_kept, last, kept) if kept else None)
    return Verification(number, last.head if last else None, damage)


def _take(folder: Path, stack: ExitStack) -> tuple[IO[bytes], int, Head | None]:
    """Return the opened log, its length and the head of a moment at which nobody writes; raises AuditLogError."""
    try:
        with locked(folder):
            return _open(folder, stack)
    except AuditLogError:
        # A copy that may only be read, to which nobody writes either.
        return _open(folder, stack)


def _open(folder: Path, stack: ExitStack) -> tuple[IO[bytes], int, Head | None]:
    try:
        log = stack.enter_context((folder / FILE).open("rb"))
    except OSError as error:
        raise AuditLogError(f"{folder / FILE}: the audit log cannot be read ({error.strerror})") from error
    return log, os.fstat(log.fileno()).st_size, read_head(folder)


def _lines(log: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the lines from where the log stands: there may be too many for the memory."""
    while (rest := size - log.tell()) > 0:
        yield log.readline(rest)


def _check(
    number: int, entry: Entry | None, last: Entry | None, line: bytes, log: IO[bytes], size: int
) -> Damage | None:
    if entry is None:
        torn = "" if line.endswith(b"\n") else ", or only a part of it was written"
        return Damage(number, f"it was edited{torn}: it does not have the hash that it says")
    if last is None:
        return _check_first(entry, log, size)
    if entry.seq > last.seq + 1:
        return Damage(number, f"{_missing(last.seq + 1, entry.seq - 1)} missing before it")
    if entry.seq <= last.seq:
        return Damage(number, f"it is entry {entry.seq}, behind entry {last.seq}: lines were reordered or added")
    if entry.previous != last.hash:
        # Its own hash holds, so that it was made again.
        return Damage(number - 1, f"it was rewritten with a new hash: line {number} does not go on from it")
    return None


def _check_first(entry: Entry, log: IO[bytes], size: int) -> Damage | None:
    if entry.seq == 1:
        return None if entry.previous == START else Damage(1, "it is not the beginning that it says it is")
    if _is_vouched_for(log, size, Head(entry.seq - 1, entry.previous)):
        return None
    deleted = plural.agree(entry.seq - 1, "it was deleted", "they were deleted")
    return Damage(1, f"{_missing(1, entry.seq - 1)} missing, and no entry says that {deleted}")


def _missing(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"


def _check_end(lines: int, last: Entry | None, head: Head | None) -> Damage | None:
    seq = last.seq if last else 0
    if head is None:
        return (
            Damage(lines, f"{HEAD} is missing or damaged, without which a missing end does not show") if last else None
        )
    if head.seq > seq:
        return Damage(lines + 1, f"the end is missing: the log ends with entry {seq}, and {HEAD} is of {head.seq}")
    # A process may have been killed between the two.
    lagging = last is not None and head.seq == seq - 1 and head.hash == last.previous
    if not lagging and (last is None or head != last.head):
        return Damage(lines, f"it was rewritten or added: {HEAD} is of another entry {head.seq}")
    return None


def _check_kept(found: tuple[int, Entry] | None, last: Entry | None, kept: Head) -> Damage | None:
    if last is None or kept.seq > last.seq:
        ends = last.seq if last else 0
        return Damage(ends + 1, f"the end is missing: the kept head is of entry {kept.seq}, the log ends with {ends}")
    # Without it, it was deleted after the retention time, for which an entry vouches.
    if found is None or found[1].hash.startswith(kept.hash):
        return None
    return Damage(found[0], f"it or a line before it was rewritten: the kept head of entry {kept.seq} is another")


def _is_vouched_for(log: IO[bytes], size: int, gone: Head) -> bool:
    """Return whether an entry behind the first says that all up to `gone` was deleted after the retention time."""
    place = log.tell()
    entries = map(Entry.parse, (line for line in _lines(log, size) if gone.hash.encode() in line))
    found = any(
        entry is not None
        and entry.what == RETENTION
        and isinstance(entry.evidence, dict)
        and (entry.evidence.get("up_to"), entry.evidence.get("hash")) == gone
        for entry in entries
    )
    log.seek(place)
    return found
