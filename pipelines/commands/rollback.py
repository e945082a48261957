"""Give the alias `champion` back to the version that had it before, and record who did so, when and why."""

import getpass
import logging
import subprocess
from datetime import UTC, datetime
from typing import Annotated

import typer

from fatescope.command import TaskName, run
from fatescope.errors import DataError
from fatescope.model_registry import CHAMPION, model_name
from pipelines.registry import tracking, versions

log = logging.getLogger(__name__)


def rollback(task: str, why: str, who: str) -> tuple[str, str]:
    """Move `champion` of `task` to the version that it replaced; return the version before and after.

    Raises DataError where there is no champion, none before it, or no reason.
    """
    if not why.strip():
        raise DataError("rollback: say why; whoever reads the card will want to know")
    champion = versions.holder(task, CHAMPION)
    if champion is None:
        raise DataError(f"rollback: {model_name(task)} has no champion")
    before = champion.tags.get("replaced")
    if before is None:
        raise DataError(
            f"rollback: version {champion.version} replaced none; delete the alias where nothing should serve"
        )
    record = {"who": who, "when": datetime.now(UTC).isoformat(timespec="seconds"), "why": why, "to": before}
    # The record first: an alias that moved without one could not be explained.
    versions.set_tags(task, str(champion.version), {"rolled_back": record})
    tracking.client().set_registered_model_alias(model_name(task), CHAMPION, before)
    return str(champion.version), before


def _who() -> str:
    """Return the name that git knows, else the one that the system knows."""
    command = ["git", "config", "user.name"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  a fixed command
    return done.stdout.strip() or getpass.getuser()


def main(
    task: TaskName, why: Annotated[str, typer.Option("--why", help="What went wrong; it is kept with the version.")]
) -> None:
    """Give the alias champion back to the version before."""
    before, after = rollback(task, why, _who())
    log.info("%s: champion is version %s again, not %s", model_name(task), after, before)


if __name__ == "__main__":
    run(main)
