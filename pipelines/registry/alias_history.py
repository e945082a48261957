"""Which version had the alias `champion` when, who put it there, and on what evidence.

From the audit log; for the time before its first entry on the alias, from the tags of the versions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from fatescope import audit_log
from fatescope.audit_log import ALIAS_SEEN, FAILED, PROMOTION, ROLLBACK
from fatescope.model_registry import CHAMPION, model_name
from pipelines.registry import versions
from pipelines.registry.records import Promotion, Rollback

TAGS = "tags of the versions"
SAME = timedelta(minutes=10)


@dataclass(frozen=True)
class Reign:
    """A time for which a version had the alias."""

    version: str
    """Empty where no version had it."""
    since: datetime
    until: datetime | None
    """None for the version that has it now."""
    what: str
    """`promotion`, `rollback`, `alias moved`, `alias first seen`, or what another part calls it in the log."""
    who: str
    evidence: dict[str, Any]
    source: str
    """`audit log, entry 12`, or TAGS."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        times = {"since": self.since.isoformat(), "until": self.until.isoformat() if self.until else None}
        return {"version": self.version, **times} | {
            "what": self.what, "who": self.who, "evidence": self.evidence, "source": self.source,
        }  # fmt: skip


def champions(task: str, log: Path | None) -> list[Reign]:
    """Return the champions of `task`, the first one first.

    Raises BundleError where nothing is known of the task: neither a champion nor any version.
    """
    logged = [] if log is None else _from_log(task, log)
    first = logged[0] if logged else None
    before = [
        reign
        for reign in _from_tags(task)
        if first is None or (reign.since < first.since and not any(_is_same(reign, entry) for entry in logged))
    ]
    if first is not None and first.what == ALIAS_SEEN and before and before[-1].version == first.version:
        # The log begins with the version that it found, of which the tags say more.
        logged = logged[1:]
    reigns = before + logged
    if not reigns:
        versions.require(task)
    return [
        replace(reign, until=reigns[i + 1].since if i + 1 < len(reigns) else None) for i, reign in enumerate(reigns)
    ]


def describe_none(task: str) -> str:
    """Return what `fatescope models history` prints where no move of the alias is on record."""
    champion = versions.get_by_alias(task, CHAMPION)
    if champion is None:
        return f"{task} never had a champion"
    return f"version {champion.version} of {task} is the champion; since when and by whom is not on record"


def champion_at(reigns: Sequence[Reign], time: datetime) -> Reign | None:
    """Return the one whose time a time was in."""
    return next((reign for reign in reversed(reigns) if reign.since <= time), None)


def _is_same(reign: Reign, entry: Reign) -> bool:
    """Return whether an entry of the log is of an act that tags tell of, which are written first."""
    return (reign.version, reign.what) == (
        entry.version,
        entry.what,
    ) and reign.since <= entry.since < reign.since + SAME


def describe(reign: Reign) -> str:
    """Return what `fatescope models history` prints of one: a line, and what it rests on below it."""
    times = [time.astimezone().strftime("%Y-%m-%d %H:%M:%S") if time else "now" for time in (reign.since, reign.until)]
    evidence, lines = reign.evidence, []
    if failed := evidence.get("failed"):
        lines.append(f"the gate had refused it: {', '.join(failed)}")
    for name, criterion in evidence.get("gate", {}).items():
        limits = [
            f"{key} {criterion[key]:.3g}" for key in ("value", "low", "high", "limit") if _is_number(criterion, key)
        ]
        lines.append(
            f"{name}: {'holds' if criterion.get('holds') else 'does not hold'}{'; ' if limits else ''}"
            + ", ".join(limits)
        )
    if why := evidence.get("why"):
        lines.append(f"reason: {why}")
    if evidence.get("by") == "hand":
        lines.append("moved by hand in MLflow, which does not say by whom; no fatescope has a record of it")
    version = f"version {reign.version}" if reign.version else "no version"
    head = f"{times[0]} to {times[1]}  {version}: {reign.what} by {reign.who} ({reign.source})"
    return "\n    ".join([head, *lines])


def _is_number(criterion: dict[str, Any], key: str) -> bool:
    return isinstance(criterion.get(key), int | float)


def _from_log(task: str, log: Path) -> list[Reign]:
    reigns: list[Reign] = []
    for entry in audit_log.read(log):
        if entry.alias != (model_name(task), CHAMPION):
            continue
        if entry.what.endswith(FAILED):
            reigns = [reign for reign in reigns if reign.source != _name(entry.evidence.get("of"))]
            continue
        since, evidence = datetime.fromisoformat(entry.time), dict(entry.evidence)
        reigns.append(
            Reign(str(entry.subject["version"]), since, None, entry.what, entry.who, evidence, _name(entry.seq))
        )
    return reigns


def _name(seq: object) -> str:
    return f"audit log, entry {seq}"


def _from_tags(task: str) -> list[Reign]:
    reigns = [reign for version in versions.list_versions(task) for reign in _acts(version)]
    return sorted(reigns, key=lambda reign: reign.since)


def _acts(version: ModelVersion) -> list[Reign]:
    """Return what the tags of a version say of the alias."""
    number, tags, acts = str(version.version), version.tags, list[Reign]()
    verdict = versions.verdict_of(version)
    if verdict is not None and verdict.champion:
        created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
        acts.append(Reign(number, created, None, PROMOTION, "gate", verdict.to_evidence(), TAGS))
    if "promoted" in tags:
        promotion = Promotion.model_validate_json(tags["promoted"])
        evidence = {"by": "person", "why": promotion.why, "replaced": tags.get("replaced")}
        acts.append(
            Reign(number, datetime.fromisoformat(promotion.when), None, PROMOTION, promotion.who, evidence, TAGS)
        )
    if "rolled_back" in tags:
        back = Rollback.model_validate_json(tags["rolled_back"])
        evidence = {"by": "person", "why": back.why, "replaced": number}
        acts.append(Reign(back.to, datetime.fromisoformat(back.when), None, ROLLBACK, back.who, evidence, TAGS))
    return acts
