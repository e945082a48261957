"""The versions in the registry as a table: what `fatescope models list` prints."""

from datetime import UTC, datetime
from typing import TypedDict

from mlflow.entities.model_registry import ModelVersion

from fatescope.model_registry import PREFIX, model_name
from pipelines.registry import tracking, versions


class Row(TypedDict):
    """One version."""

    task: str
    model: str
    """Name of the registered model."""
    version: str
    aliases: list[str]
    created: str
    """When it was registered, UTC, ISO 8601."""
    verdict: str
    """What the gate decided: `champion`, `passed` (in an experiment), `refused`; `missing` where it did not decide."""
    failed: list[str]
    """Criteria of the gate that it does not meet."""
    balanced_accuracy: float | None
    """On the test cells of `split`, with the ends of its 95 % interval, if it has one, in `low` and `high`."""
    low: float | None
    high: float | None
    split: str
    note: str
    """Who promoted it or rolled it back, when and why."""


def list_versions(task: str | None = None) -> list[Row]:
    """Return the versions of `task`, or of all tasks, newest first within each."""
    client = tracking.client()
    models = client.search_registered_models(filter_string=f"name LIKE '{PREFIX}%'")
    rows = []
    for model in sorted(models, key=lambda model: str(model.name)):
        name = str(model.name).removeprefix(PREFIX)
        if task not in (None, name):
            continue
        aliases: dict[str, list[str]] = {}
        for alias, number in model.aliases.items():
            aliases.setdefault(str(number), []).append(str(alias))
        rows += [_row(name, version, aliases.get(str(version.version), [])) for version in versions.list_versions(name)]
    return rows


def _row(task: str, version: ModelVersion, aliases: list[str]) -> Row:
    tags = version.tags
    verdict = versions.verdict_of(version)
    figures = {key: float(tags[key]) if key in tags else None for key in ACCURACY}
    return {
        "task": task,
        "model": model_name(task),
        "version": str(version.version),
        "aliases": sorted(aliases),
        "created": datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        "verdict": "missing" if verdict is None else verdict.outcome,
        "failed": verdict.failed if verdict else [],
        "balanced_accuracy": figures[ACCURACY[0]],
        "low": figures[ACCURACY[1]],
        "high": figures[ACCURACY[2]],
        "split": tags.get("split", ""),
        "note": versions.note_on(version),
    }


ACCURACY = ("balanced_accuracy", "balanced_accuracy.low", "balanced_accuracy.high")
"""Tags of a version."""
