"""Make a version the champion by hand, and record who did so, when and why.

Without a reason only where the gate allows it: what passed in an experiment, for example. The record is the tag
`promoted` of the version; `rollback` takes it back as it does any champion.
"""

from datetime import UTC, datetime
from typing import TypedDict

from mlflow.entities.model_registry import ModelVersion

from fatescope import audit_log
from fatescope.errors import DataError
from fatescope.inference import bundle
from fatescope.model_registry import CHAMPION, model_name
from pipelines.registry import aliases, versions
from pipelines.registry.records import Promotion

PASSED = "it passed the gate"
"""The reason of a promotion that needs none."""


class Promoted(TypedDict):
    """What was done."""

    model: str
    version: str
    replaced: str | None
    """The champion before."""
    failed: list[str]
    """Criteria of the gate that the version does not meet."""
    promoted: dict[str, str]
    """The record: `who`, `when`, `why`."""


def promote(task: str, version: str | None, why: str | None, who: str) -> Promoted:
    """Give `champion` of `task` to `version`, a number or an alias; to the newest one where that is None.

    A reason overrules the gate. Raises DataError where the gate refused the version and `why` is None, where `why` is
    empty, or where the version is the champion already, and BundleError where it does not exist or does not reproduce
    its test tensors here: nothing may serve it.
    """
    if why is not None and not why.strip():
        raise DataError("promote: give a reason; whoever reads the card will want to know")
    chosen = versions.find(task, version) if version is not None else _newest(task)
    number, champion = str(chosen.version), versions.get_by_alias(task, CHAMPION)
    if champion is not None and str(champion.version) == number:
        raise DataError(f"promote: version {number} of {model_name(task)} is the champion already")
    if why is None:
        if objection := _objection(chosen, None if champion is None else str(champion.version)):
            raise DataError(f"promote: version {number} of {model_name(task)}: {objection}; --reason overrules it")
        why = PASSED
    with versions.download(task, number) as folder:
        bundle.load(folder, threads=1).check()
    verdict = versions.verdict_of(chosen)
    record = Promotion(who=who, when=datetime.now(UTC).isoformat(timespec="milliseconds"), why=why)
    replaced = str(champion.version) if champion else None
    # The record first: an alias that moved without one could not be explained.
    versions.set_tags(task, number, {"promoted": record.to_json()} | ({"replaced": replaced} if replaced else {}))
    failed = verdict.failed if verdict else []
    evidence = {"why": why, "by": "person", "replaced": replaced, "failed": failed, "bundle": chosen.tags.get("bundle")}
    aliases.move(audit_log.PROMOTION, task, CHAMPION, number, who=who, evidence=evidence)
    return {
        "model": model_name(task),
        "version": number,
        "replaced": replaced,
        "failed": failed,
        "promoted": record.model_dump(),
    }


def _newest(task: str) -> ModelVersion:
    """Return the version that was registered last; raises BundleError where there is none."""
    return versions.require(task)[0]


def _objection(version: ModelVersion, champion: str | None) -> str | None:
    """Return why the gate's decision on a version does not let it replace `champion`, if so."""
    verdict = versions.verdict_of(version)
    if verdict is None:
        return "the gate has not decided on it"
    if verdict.failed:
        return f"the gate refused it: {', '.join(verdict.failed)}"
    # Old verdicts do not say what the version was compared with.
    if verdict.against != champion or (champion is None and verdict.compared is None):
        return f"it was compared with {verdict.against or 'no version'}, and the champion is {champion or 'none'} now"
    return None
