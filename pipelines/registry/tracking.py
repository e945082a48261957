"""How `tune`, `train`, `evaluate` and `register` speak to MLflow: the one home of that.

The server is the one at `MLFLOW_TRACKING_URI`, else MLflow's own default: `mlflow.db` in the project's folder.
"""

import logging
import math
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import Any

# MLflow reads this when it is imported; no run of ours reports to anyone.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from fatescope.model_registry import model_name

COMMIT = "mlflow.source.git.commit"
"""The tag of a run that MLflow's pages show as its version."""


@dataclass(frozen=True)
class Tracked:
    """One MLflow run, written by its id: several may be open at once, in several processes."""

    run_id: str

    def log_params(self, params: dict[str, Any]) -> None:
        """Log parameters, nested ones with dots; those that are there already stay as they are."""
        known = client().get_run(self.run_id).data.params
        fresh = [Param(k, str(v)) for k, v in flatten(params).items() if k not in known]
        client().log_batch(self.run_id, params=fresh)

    def log_metrics(self, figures: dict[str, Any], step: int = 0) -> None:
        """Log the figures that are numbers, nested ones with dots."""
        now = int(time.time() * 1000)
        found = [
            Metric(_key(k), float(v), now, step) for k, v in flatten(figures).items() if isinstance(v, int | float)
        ]
        numbers = [each for each in found if math.isfinite(each.value)]
        for start in range(0, len(numbers), 500):
            client().log_batch(self.run_id, metrics=numbers[start : start + 500])

    def set_tags(self, tags: dict[str, Any]) -> None:
        """Set tags."""
        client().log_batch(self.run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    def set_tag(self, name: str, value: str) -> None:
        """Set one tag."""
        client().set_tag(self.run_id, name, value)

    def log_artifact(self, path: Path) -> None:
        """Upload a file."""
        client().log_artifact(self.run_id, str(path))


def client() -> mlflow.MlflowClient:
    """Return a client of the tracking server that is set now."""
    return mlflow.MlflowClient()


@contextmanager
def resumed(task: str, name: str, run_id: str | None = None) -> Iterator[Tracked]:
    """Yield the run `run_id` of the experiment of `task`, or a new one where this server does not know it.

    It ends as failed where the block raises, and as killed where it is interrupted.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    mlflow.set_experiment(model_name(task))
    with mlflow.start_run(run_id=run_id if run_id and _known(run_id) else None, run_name=name) as run:
        mlflow.set_tag(COMMIT, git_commit())
        try:
            yield Tracked(run.info.run_id)
        except KeyboardInterrupt:
            mlflow.end_run("KILLED")
            raise


@contextmanager
def nested(task: str, name: str, parent: str, tags: dict[str, str]) -> Iterator[Tracked]:
    """Yield a new run below the run `parent`; it ends as failed, with the reason, where the block raises.

    `tags` may give the commit, for workers whose current folder is not the project's.
    """
    experiment = mlflow.set_experiment(model_name(task)).experiment_id
    described = tags | {
        "mlflow.runName": name,
        "mlflow.parentRunId": parent,
        COMMIT: tags[COMMIT] if COMMIT in tags else git_commit(),
        "mlflow.user": getuser(),
    }
    run_id = client().create_run(experiment, tags=described, run_name=name).info.run_id
    try:
        yield Tracked(run_id)
    except BaseException as error:
        client().set_tag(run_id, "reason", f"{type(error).__name__}: {error}"[:500])
        client().set_terminated(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    client().set_terminated(run_id, "FINISHED")


def end_killed(run_id: str | None) -> None:
    """Say of a run whose process was killed that it is not running any more."""
    if run_id and _known(run_id) and client().get_run(run_id).info.status == "RUNNING":
        client().set_terminated(run_id, "KILLED")


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


def _key(name: str) -> str:
    """Return a name that MLflow takes for a metric: classes may be called what it does not allow."""
    return re.sub(r"[^\w\-. /:]", "_", name)


def _known(run_id: str) -> bool:
    try:
        found = mlflow.get_run(run_id)
    except MlflowException:
        return False
    return str(found.info.lifecycle_stage) == "active"
