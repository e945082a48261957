"""Move aliases of versions, and enter each move into the audit log."""

from collections.abc import Mapping

from fatescope import audit_log
from fatescope.model_registry import model_name
from pipelines.registry import tracking


def move(what: str, task: str, alias: str, version: str, *, who: str, evidence: Mapping[str, object]) -> None:
    """Give `alias` of `task` to `version`; `what` is what the audit log calls it.

    Raises AuditLogError, and moves nothing, where the log cannot be written.
    """
    subject = {"model": model_name(task), "alias": alias, "version": version}
    with audit_log.recording(what, subject, evidence=evidence, who=who):
        tracking.client().set_registered_model_alias(model_name(task), alias, version)
