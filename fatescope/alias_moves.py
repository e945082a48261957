"""Notice aliases in the registry that were moved by hand, and enter them into the audit log.

What `fatescope` itself moves is in the log before it moves. An alias that has another version than the log says was
moved in MLflow by hand, or by a `fatescope` elsewhere that keeps another log; then the tags of the versions say by
whom. MLflow does not note who moves an alias.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fatescope import audit_log
from fatescope.audit_log import ALIAS_MOVED, ALIAS_SEEN, Entry
from fatescope.model_registry import CHALLENGER, CHAMPION

SETTLING = timedelta(seconds=10)
"""How long an entry of the log may be ahead of the registry: it is written first."""
UNKNOWN = "unknown"
"""Who moved an alias by hand."""

Aliases = Mapping[tuple[str, str], str]
"""(model, alias) → version."""


@dataclass(frozen=True)
class Version:
    """What the registry says of a version."""

    tags: Mapping[str, str]
    created: datetime


Describe = Callable[[str, str], Version | None]
"""Returns what the registry says of a version of a model; None where there is none."""


@dataclass
class AliasWatch:
    """Compares the aliases in a registry with those in a log, again and again."""

    folder: Path
    """Of the audit log."""
    _seen: tuple[int, int] | None = field(default=None, init=False)
    """Size and time of the log when it was last read."""
    _entries: dict[tuple[str, str], Entry] = field(default_factory=dict, init=False)
    """The newest entry on each alias."""
    _known: dict[tuple[str, str], str] = field(default_factory=dict, init=False)

    def look(self, current: Aliases, describe: Describe) -> list[Entry]:
        """Enter what differs from the log, once whoever else looks; return the new entries.

        Raises AuditLogError where the log cannot be read or written.
        """
        self._read()
        entered = []
        for key in sorted(current.keys() | {key for key, version in self._known.items() if version}):
            before, after = self._known.get(key), current.get(key, "")
            if before == after or self._is_settling(key):
                continue
            what = ALIAS_MOVED if any(model == key[0] for model, _ in self._known) else ALIAS_SEEN
            who, evidence = self._explain(key, before or "", after, describe)
            if what == ALIAS_SEEN and evidence["by"] == "hand":
                evidence["by"] = "before this log"
            subject = {"model": key[0], "alias": key[1], "version": after}
            entry = audit_log.append(
                what, subject, evidence=evidence | {"replaced": before or None}, who=who, folder=self.folder,
                unless=self._is_known(key, after),
            )  # fmt: skip
            if entry is not None:
                entered.append(entry)
        return entered

    def _is_known(self, key: tuple[str, str], version: str) -> Callable[[], bool]:
        def known() -> bool:
            return audit_log.aliases(audit_log.read_alias_moves(self.folder)).get(key) == version

        return known

    def _is_settling(self, key: tuple[str, str]) -> bool:
        entry = self._entries.get(key)
        return entry is not None and datetime.now(UTC) - datetime.fromisoformat(entry.time) < SETTLING

    def _read(self) -> None:
        try:
            status = (self.folder / audit_log.FILE).stat()
        except OSError:
            return
        if self._seen != (status.st_size, status.st_mtime_ns):
            entries = list(audit_log.read_alias_moves(self.folder))
            self._known = audit_log.aliases(entries)
            self._entries = {entry.alias: entry for entry in entries if entry.alias}
            self._seen = status.st_size, status.st_mtime_ns

    def _explain(
        self, key: tuple[str, str], before: str, after: str, describe: Describe
    ) -> tuple[str, dict[str, object]]:
        """Return who moved an alias, and why, as far as tags of the versions say that it was `fatescope`."""
        model, alias = key
        entry = self._entries.get(key)
        since = datetime.fromisoformat(entry.time) if entry else datetime.min.replace(tzinfo=UTC)
        old, new = (describe(model, version) if version else None for version in (before, after))
        if alias == CHAMPION:
            back = _parse(old, "rolled_back")
            if back.get("to") == after and _is_after(back, since):
                return back["who"], {
                    "by": "person",
                    "act": audit_log.ROLLBACK,
                    "why": back["why"],
                    "when": back["when"],
                }
            promoted = _parse(new, "promoted")
            if _is_after(promoted, since):
                return promoted["who"], {
                    "by": "person", "act": audit_log.PROMOTION, "why": promoted["why"], "when": promoted["when"],
                }  # fmt: skip
        gate = _parse(new, "gate")
        if gate and new is not None and new.created > since and (alias == CHALLENGER or gate.get("champion")):
            return "gate", {"by": "gate", "act": audit_log.PROMOTION if alias == CHAMPION else audit_log.REGISTRATION}
        return UNKNOWN, {"by": "hand"}


def _parse(version: Version | None, tag: str) -> dict[str, Any]:
    """Return a tag of a version, which is JSON; empty where there is none that can be read.

    Whoever writes to the registry writes the tag.
    """
    try:
        content = json.loads(version.tags[tag]) if version else {}
    except (KeyError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_after(record: Mapping[str, Any], since: datetime) -> bool:
    """Return whether a record of a person is of a later act than the newest entry: that tells it from an older one."""
    try:
        # It has whole seconds.
        when = datetime.fromisoformat(record["when"])
        return when >= since.replace(microsecond=0) and all(isinstance(record[name], str) for name in ("who", "why"))
    except (KeyError, ValueError, TypeError):
        return False
