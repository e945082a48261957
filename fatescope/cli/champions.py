"""`fatescope models promote`, `rollback` and `history`: which version is the champion, and who made it so."""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from fatescope import plural
from fatescope.cli import console
from fatescope.cli.registry import Task, registry

TIMES = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%z",
)
"""How a time may be written."""
Reason = Annotated[str, typer.Option("--reason", "--why", help="Why; it is recorded with the version and on its card.")]


def promote(
    task: Task,
    version: Annotated[
        str | None,
        typer.Argument(metavar="VERSION", help="Its number, or an alias such as challenger. [default: the newest]"),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", "--why", help="Why, where the gate does not allow it; it is recorded.")
    ] = None,
    as_json: console.AsJson = False,
) -> None:
    """Make a version the champion.

    One that passed the gate, such as in `dvc exp run`, or any other for a reason; who did so and why is recorded with
    the version and on later cards.
    """
    with registry():
        from pipelines.commands import promote as command

        promotion = command.promote(task, version, reason, console.who())
    if as_json:
        console.print_json(promotion)
        return
    if promotion["failed"]:
        print(f"the gate had refused it: {', '.join(promotion['failed'])}")
    print(
        f"{promotion['model']}: champion is version {promotion['version']}, before: {promotion['replaced'] or 'none'}"
    )


def rollback(task: Task, reason: Reason, as_json: console.AsJson = False) -> None:
    """Give the alias champion back to the version before.

    Who did so and why is recorded with the version and on later cards.
    """
    with registry():
        from pipelines.commands import rollback as command

        before, after = command.rollback(task, reason, console.who())
    if as_json:
        console.print_json({"task": task, "version": after, "rolled_back": before})
        return
    print(f"fatescope-{task}: champion is version {after} again, not {before}")


def history(
    task: Task,
    at: Annotated[
        datetime | None,
        typer.Option(help="The champion at this time, in the time zone of this machine.", formats=list(TIMES)),
    ] = None,
    as_json: console.AsJson = False,
) -> None:
    """Say which version was the champion when, who put it there, and on what evidence.

    From the audit log (FATESCOPE_AUDIT_LOG); from the tags of the versions for the time before it began. With --at, the
    prediction log (FATESCOPE_RECORDS) says which versions answered within five minutes of that time.
    """
    with registry():
        from fatescope import audit_log
        from pipelines.registry import alias_history

        reigns = alias_history.champions(task, audit_log.configured())
    if at is None:
        if as_json:
            console.print_json([reign.as_dict() for reign in reigns])
            return
        for reign in reigns:
            print(alias_history.describe(reign))
        if not reigns:
            with registry():
                print(alias_history.describe_none(task))
        return
    from fatescope.answered import versions_at

    time = at.astimezone()
    champion = alias_history.champion_at(reigns, time)
    records = os.environ.get("FATESCOPE_RECORDS") or "records"
    answered = {} if records == "off" else versions_at(Path(records), task, time)
    if as_json:
        console.print_json({"champion": champion.as_dict() if champion else None, "answered": answered})
        return
    print(
        alias_history.describe(champion) if champion else f"{task} had no champion yet on {time:%Y-%m-%d %H:%M:%S %Z}"
    )
    counts = ", ".join(
        f"version {version} answered {plural.count(cells, 'cell')}" for version, cells in sorted(answered.items())
    )
    print(f"within five minutes of then: {counts or 'no recorded answers'}")
