"""The MLflow registry as `register`, `compare` and `rollback` see it: versions of `fatescope-TASK` and two aliases.

Tags of a version: `bundle` (SHA-256 of the spec as trained), `data_hash`, `git_commit`, `splits_hash`, `split`,
`audit`, `confounded`, `balanced_accuracy` with `balanced_accuracy.low` and `.high`, `gate` (the verdict as JSON),
`replaced` (the champion before it), and `rolled_back` (`who`, `when`, `why`, `to` as JSON).
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from fatescope.errors import BundleError
from fatescope.model_registry import bundle_uri, model_name
from pipelines.registry.tracking import client

MAX_TAG = 5000
"""Characters that MLflow keeps of a tag or a description."""


def versions(task: str) -> list[ModelVersion]:
    """Return all versions of `task`, newest first."""
    known = client().search_model_versions(f"name = '{model_name(task)}'")
    return sorted(known, key=lambda each: -int(each.version))


def holder(task: str, alias: str) -> ModelVersion | None:
    """Return the version that has `alias`, if any."""
    try:
        return client().get_model_version_by_alias(model_name(task), alias)
    except MlflowException:
        return None


def next_version(task: str) -> str:
    """Return the number that the next version of `task` will have."""
    return str(1 + max((int(each.version) for each in versions(task)), default=0))


def find(task: str, digest: str) -> ModelVersion | None:
    """Return the version that was made from the bundle whose spec has this SHA-256, if any."""
    return next((each for each in versions(task) if each.tags.get("bundle") == digest), None)


@contextmanager
def fetched(task: str, version: str) -> Iterator[Path]:
    """Yield a folder with the bundle of `version`, a number or an alias; raises BundleError where there is none."""
    name = model_name(task)
    try:
        if not version.isdigit():
            version = str(client().get_model_version_by_alias(name, version).version)
        with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
            yield Path(mlflow.artifacts.download_artifacts(bundle_uri(task, version), dst_path=folder))
    except MlflowException as error:
        raise BundleError(f"{name}: no version '{version}' in {mlflow.get_registry_uri()} ({error.message})") from error


def set_tags(task: str, version: str, tags: dict[str, object]) -> None:
    """Set tags of a version; texts longer than MLflow keeps are refused, not cut."""
    for key, value in tags.items():
        text = value if isinstance(value, str) else json.dumps(value)
        assert len(text) <= MAX_TAG, f"tag {key}: {len(text)} characters"
        client().set_model_version_tag(model_name(task), version, key, text)


def history(task: str, without: str | None = None) -> list[dict[str, Any]]:
    """Return the versions of `task`, newest first, as the card tells them, all but the version `without`."""
    rows = []
    for each in versions(task):
        if str(each.version) == without:
            continue
        tags, note = each.tags, ""
        gate = json.loads(tags["gate"]) if "gate" in tags else {}
        if "rolled_back" in tags:
            record = json.loads(tags["rolled_back"])
            note = f"rolled back by {record['who']} on {record['when'][:10]}: {record['why']}"
        rows.append(
            {
                "version": str(each.version),
                "created": datetime.fromtimestamp(each.creation_timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M"),
                "balanced_accuracy": tags.get("balanced_accuracy", "missing"),
                "verdict": "champion" if gate.get("champion") else "refused" if gate else "missing",
                "note": note,
            }
        )
    return rows
