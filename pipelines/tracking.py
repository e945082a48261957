"""How `tune`, `train`, `evaluate` and `register` speak to MLflow: the one home of that.

The server is the one at `MLFLOW_TRACKING_URI`, else MLflow's own default: `mlflow.db` in the project's folder.
"""

import json
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# MLflow reads this when it is imported; no run of ours reports to anyone.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow.exceptions import MlflowException

PREFIX = "fatescope-"
"""Experiments and registered models are called this, followed by the task."""


@contextmanager
def resumed(task: str, name: str, run_id: str | None = None) -> Iterator[mlflow.ActiveRun]:
    """Yield the run `run_id` of the experiment of `task`, or a new one where this server does not know it."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    mlflow.set_experiment(PREFIX + task)
    with mlflow.start_run(run_id=run_id if run_id and _known(run_id) else None, run_name=name) as run:
        mlflow.set_tag("mlflow.source.git.commit", git_commit())
        yield run


def flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into one, with keys joined by dots."""
    flat = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def git_commit() -> str:
    """Return the commit of the working tree, with `-dirty` where it was changed since; empty outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  a fixed command
    return done.stdout.strip()


def save_run_ids(run_ids: dict[str, str], path: Path) -> None:
    """Write split → run id, for the stages that add to the same runs."""
    path.write_text(json.dumps(run_ids, indent=2) + "\n")


def load_run_ids(path: Path) -> dict[str, str]:
    """Read what `save_run_ids` wrote."""
    run_ids: dict[str, str] = json.loads(path.read_text())
    return run_ids


def _known(run_id: str) -> bool:
    try:
        found = mlflow.get_run(run_id)
    except MlflowException:
        return False
    return str(found.info.lifecycle_stage) == "active"
