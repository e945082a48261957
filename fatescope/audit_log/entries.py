"""What an entry is, and the hash that seals it."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from fatescope.errors import FatescopeError

START = "0" * 64
"""`previous` of the first entry."""
REGISTRATION, PROMOTION, ROLLBACK = "registration", "promotion", "rollback"
ALIAS_SEEN, ALIAS_MOVED = "alias first seen", "alias moved"
SIGNATURE, CORRECTION, KEY_USE = "signature", "correction", "key use"
DELETION, RETENTION, RECOVERY = "deletion", "retention", "recovery"
"""What the entries of Fatescope itself are called."""
FAILED = "failed"
"""How `what` of an entry ends that takes another one back: `promotion failed`."""


class AuditLogError(FatescopeError):
    """The audit log cannot be written or read."""


class Head(NamedTuple):
    """The newest entry, or the one that it was when somebody kept this."""

    seq: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """One act."""

    seq: int
    time: str
    who: str
    what: str
    subject: Any
    evidence: Any
    previous: str
    hash: str

    @property
    def head(self) -> Head:
        """Return what a kept head says of this entry."""
        return Head(self.seq, self.hash)

    @property
    def alias(self) -> tuple[str, str] | None:
        """Return model and alias where the entry gives an alias to a version."""
        subject = self.subject
        if isinstance(subject, dict) and {"model", "alias", "version"} <= subject.keys():
            return str(subject["model"]), str(subject["alias"])
        return None

    def line(self) -> bytes:
        """Return the entry as it stands in the log."""
        return canonical(asdict(self)) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "Entry | None":
        """Return the entry of a line, with or without its end; None where it is none, or not as it was written."""
        try:
            content = json.loads(line)
            entry = cls(**content)
            written = canonical(content) == line.rstrip(b"\n")
            sealed = written and content.pop("hash") == digest(content)
        except (ValueError, TypeError, RecursionError):
            return None
        return entry if sealed and isinstance(entry.seq, int) else None


def digest(content: Mapping[str, Any]) -> str:
    """Return the hash that seals `content`, an entry without its `hash`."""
    return hashlib.sha256(canonical(content)).hexdigest()


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return `content` as canonical JSON: the same bytes for the same content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def plain(value: object) -> Any:  # noqa: ANN401  JSON
    """Return `value` as JSON has it: mappings, lists, texts, finite numbers; whatever else it is as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
