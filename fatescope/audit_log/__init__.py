"""The audit log: who did what to the models and their answers, when and on what evidence.

One line of code records an act, from any process and thread:

    audit_log.append("signature", {"model": "fatescope-binary", "version": "4"}, evidence={"signer": "lab"})

`FATESCOPE_AUDIT_LOG` names the folder (`audit_log` without it, `off` for none). `log.jsonl` in it has a line for each
entry, in canonical JSON: `seq` (from 1), `time` (UTC), `who`, `what`, `subject`, `evidence`, `previous` (the hash of
the entry before) and `hash` (SHA-256 of all of that). `head.json` has `seq` and `hash` of the newest entry: against it,
and against copies of it that are kept elsewhere, a missing end shows (`fatescope.audit_verification`).

Whatever gives an alias to a version has the `subject` `{"model", "alias", "version"}` (the version is "" where the
alias was taken away); from these entries follows which version had it when. No entry has anything about the person
that a sample comes from: entries cannot be deleted one by one.

`entries` has what an entry is, `folder` where the log is and its lock, `writing`, `reading` and `pruning` what is done
with it.
"""

from fatescope.audit_log.entries import (
    ALIAS_MOVED,
    ALIAS_SEEN,
    CORRECTION,
    DELETION,
    FAILED,
    KEY_USE,
    PROMOTION,
    RECOVERY,
    REGISTRATION,
    RETENTION,
    ROLLBACK,
    SIGNATURE,
    START,
    AuditLogError,
    Entry,
    Head,
)
from fatescope.audit_log.folder import DEFAULT, FILE, HEAD, OFF, VARIABLE, configured, locked, read_head
from fatescope.audit_log.pruning import prune
from fatescope.audit_log.reading import aliases, read, read_alias_moves
from fatescope.audit_log.writing import append, recording

__all__ = [
    "ALIAS_MOVED",
    "ALIAS_SEEN",
    "CORRECTION",
    "DEFAULT",
    "DELETION",
    "FAILED",
    "FILE",
    "HEAD",
    "KEY_USE",
    "OFF",
    "PROMOTION",
    "RECOVERY",
    "REGISTRATION",
    "RETENTION",
    "ROLLBACK",
    "SIGNATURE",
    "START",
    "VARIABLE",
    "AuditLogError",
    "Entry",
    "Head",
    "aliases",
    "append",
    "configured",
    "locked",
    "prune",
    "read",
    "read_alias_moves",
    "read_head",
    "recording",
]
