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
from pipelines.registry.records import Rollback

log = logging.getLogger(__name__)


def rollback(task: str, why: str, who: str) -> tuple[str, str]:
    """Move the alias from the champion of `task` to the version that it replaced; return both, the former first.

    Raises DataError where there is no champion, none before it, or no reason.
    """
    if not why.strip():
        raise DataError("rollback: the reason is empty; give one, because the model card will show it")
    champion = versions.get_by_alias(task, CHAMPION)
    if champion is None:
        raise DataError(f"rollback: {model_name(task)} has no champion")
    before = champion.tags.get("replaced")
    if before is None:
        raise DataError(
            f"rollback: version {champion.version} replaced no other; to serve nothing, delete the alias '{CHAMPION}' "
            "in MLflow"
        )
    record = Rollback(who=who, when=datetime.now(UTC).isoformat(timespec="seconds"), why=why, to=before)
    # The record first: if this is interrupted, the reason for a moved alias must not be missing.
    versions.set_tags(task, str(champion.version), {"rolled_back": record.to_json()})
    tracking.client().set_registered_model_alias(model_name(task), CHAMPION, before)
    return str(champion.version), before


def _user_name() -> str:
    """Return the user's name in git, else in the system."""
    command = ["git", "config", "user.name"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  a fixed command
    return done.stdout.strip() or getpass.getuser()


def main(
    task: TaskName, why: Annotated[str, typer.Option("--why", help="What went wrong; it is kept with the version.")]
) -> None:
    """Give the alias champion back to the version before."""
    before, after = rollback(task, why, _user_name())
    log.info("%s: champion is version %s again, not %s", model_name(task), after, before)


if __name__ == "__main__":
    run(main)
