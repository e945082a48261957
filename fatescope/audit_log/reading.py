"""Read the log, and say what follows from it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from fatescope.audit_log.entries import FAILED, RETENTION, AuditLogError, Entry
from fatescope.audit_log.folder import FILE

_SEQ, _ALIAS = re.compile(rb'"previous":"[0-9a-f]{64}","seq":([0-9]+),"subject":'), b'"alias'
"""What the line of an entry has of its number, and of aliases; others may have it too."""


def read(folder: Path, after: int = 0) -> Iterator[Entry]:
    """Yield the entries behind number `after` that can be read, the oldest first.

    `fatescope.audit_verification` says whether all is well.
    """
    # To parse what is left out takes a hundred times as long. Evidence may have numbers of its own.
    entries = _read(folder, lambda line: not after or any(int(found) > after for found in _SEQ.findall(line)))
    yield from (entry for entry in entries if entry.seq > after)


def read_alias_moves(folder: Path) -> Iterator[Entry]:
    """Yield the entries of which `aliases` takes account, the oldest first: a few of many."""
    yield from _read(folder, lambda line: _ALIAS in line)


def _read(folder: Path, is_wanted: Callable[[bytes], bool]) -> Iterator[Entry]:
    try:
        with (folder / FILE).open("rb") as log:
            yield from filter(None, map(Entry.parse, filter(is_wanted, log)))
    except FileNotFoundError:
        return
    except OSError as error:
        raise AuditLogError(f"{folder / FILE}: the audit log cannot be read ({error.strerror})") from error


def aliases(entries: Iterable[Entry]) -> dict[tuple[str, str], str]:
    """Return (model, alias) → version according to the log; "" where the alias was taken away."""
    state, before = dict[tuple[str, str], str](), dict[int, str | None]()
    for entry in entries:
        if entry.what == RETENTION and isinstance(entry.evidence, Mapping):
            # Of entries that are gone.
            for model, alias, version in entry.evidence.get("aliases", []):
                state.setdefault((model, alias), version)
        key = entry.alias
        if key is None:
            continue
        if not entry.what.endswith(FAILED):
            before[entry.seq] = state.get(key)
            state[key] = str(entry.subject["version"])
        elif (version := before.get(entry.evidence.get("of", 0))) is not None:
            state[key] = version
        else:
            state.pop(key, None)
    return state
