"""Give the alias `champion` back to the version that had it before, and record who did so, when and why."""

from datetime import UTC, datetime

from fatescope import audit_log
from fatescope.errors import DataError
from fatescope.model_registry import CHAMPION, model_name
from pipelines.registry import aliases, versions
from pipelines.registry.records import Rollback


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
    record = Rollback(who=who, when=datetime.now(UTC).isoformat(timespec="milliseconds"), why=why, to=before)
    # The record first: if this is interrupted, the reason for a moved alias must not be missing.
    versions.set_tags(task, str(champion.version), {"rolled_back": record.to_json()})
    evidence = {"why": why, "by": "person", "replaced": str(champion.version)}
    aliases.move(audit_log.ROLLBACK, task, CHAMPION, before, who=who, evidence=evidence)
    return str(champion.version), before
