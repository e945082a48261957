"""`fatescope audit-log`: what was done to models and answers, and whether the log of it is whole."""

from pathlib import Path
from typing import Annotated

import typer

from fatescope import audit_log, audit_verification, plural
from fatescope.cli import console
from fatescope.errors import FatescopeError

log = console.group(
    "The audit log: who did what to models and answers.",
    "fatescope audit-log show --last 10",
    "fatescope audit-log verify",
)

Folder = Annotated[
    Path | None, typer.Option("--folder", help="Its folder. [default: FATESCOPE_AUDIT_LOG, else audit_log]")
]


def _folder(given: Path | None) -> Path:
    folder = given or audit_log.configured()
    if folder is None:
        raise FatescopeError(f"{audit_log.VARIABLE}={audit_log.OFF}: no audit log is kept; name a folder with --folder")
    return folder


@log.command(epilog=console.examples("fatescope audit-log show", "fatescope audit-log show --what promotion --json"))
def show(
    folder: Folder = None,
    what: Annotated[str, typer.Option(help="Entries of this kind alone, such as promotion or correction.")] = "",
    last: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 50,
    as_json: console.AsJson = False,
) -> None:
    """Print entries, the newest last."""
    entries = [entry for entry in audit_log.read(_folder(folder)) if not what or entry.what.startswith(what)][-last:]
    if as_json:
        console.print_json([vars(entry) for entry in entries])
        return
    for entry in entries:
        subject = entry.subject
        text = ", ".join(f"{key} {value}" for key, value in subject.items()) if isinstance(subject, dict) else subject
        print(f"{entry.seq:>6}  {entry.time[:19]}  {entry.who:<16} {entry.what:<16} {text}")


@log.command(epilog=console.examples("fatescope audit-log head"))
def head(folder: Folder = None) -> None:
    """Print the number and the hash of the newest entry, to be kept elsewhere.

    `fatescope audit-log verify --head` compares the log with it later: without one, whoever may write to the folder can
    write the log anew from some entry on.
    """
    place = _folder(folder)
    known = audit_log.read_head(place)
    if known is None:
        raise FatescopeError(f"{place / audit_log.HEAD}: no audit log has been begun here")
    print(f"{known.seq}:{known.hash}")


@log.command(
    epilog=console.examples("fatescope audit-log verify", "fatescope audit-log verify --head 12:0f3c9a5be1d2 --json")
)
def verify(
    folder: Folder = None,
    kept: Annotated[
        str | None, typer.Option("--head", help="What `fatescope audit-log head` printed before, SEQ:HASH.")
    ] = None,
    as_json: console.AsJson = False,
) -> None:
    """Verify the chain, and name the first line that was edited, removed, added or reordered.

    The exit code is 1 where there is one.
    """
    known = audit_verification.parse_head(kept) if kept else None
    place = _folder(folder)
    result = audit_verification.verify(place, known)
    damage = result.damage
    if as_json:
        newest = f"{result.head.seq}:{result.head.hash}" if result.head else None
        content = {"entries": result.entries, "head": newest, "damage": vars(damage) if damage else None}
        console.print_json(content)
        if damage:
            raise typer.Exit(1)
        return
    if damage:
        raise FatescopeError(f"{place / audit_log.FILE}: line {damage.line}: {damage.reason}")
    against = "" if known else "; compare it with a head that was kept elsewhere (--head)"
    print(f"{plural.count(result.entries, 'entry,', 'entries, each')} as it was written{against}")
