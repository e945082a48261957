"""MLflow runs, as the stages `tune`, `train`, `evaluate` and `register` track them.

The server is the one at `MLFLOW_TRACKING_URI`, else MLflow's own default: `mlflow.db` in the project's folder.
"""

import logging
import math
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from getpass import getuser
from pathlib import Path
from typing import Any

from fatescope.model_registry import QUIET, is_missing, metric_key, model_name, restore_experiment

os.environ.update(QUIET | os.environ)

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from fatescope import artifact_places
from fatescope.data.batches import batched

log = logging.getLogger(__name__)

MAX_BATCH = 500
"""Metrics that are sent at a time; MLflow takes no more than 1,000."""
COMMIT = "mlflow.source.git.commit"
"""The tag of a run that the pages of MLflow show as its version."""


@dataclass(frozen=True)
class Tracked:
    """One MLflow run, written to by its id, so that several may be open at once, in several processes."""

    run_id: str

    def log_params(self, params: dict[str, Any]) -> None:
        """Log parameters, nested ones with dots; those that were logged before stay as they are."""
        logged = client().get_run(self.run_id).data.params
        new = [Param(k, str(v)) for k, v in flatten(params).items() if k not in logged]
        client().log_batch(self.run_id, params=new)

    def log_metrics(self, metrics: Mapping[str, object], step: int = 0) -> None:
        """Log the values that are finite numbers, nested ones with dots."""
        now = int(time.time() * 1000)
        numbers = [
            Metric(metric_key(k), float(v), now, step)
            for k, v in flatten(metrics).items()
            if isinstance(v, int | float) and math.isfinite(v)
        ]
        for batch in batched(numbers, MAX_BATCH):
            client().log_batch(self.run_id, metrics=batch)

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
    """Return a client of the tracking server that is set now.

    Raises FatescopeError where the folder of the project was moved or copied, and the places of the artifacts in its
    database cannot be put right.
    """
    _put_right(Path.cwd(), mlflow.get_tracking_uri())
    return mlflow.MlflowClient()


_put_right = cache(artifact_places.put_right)
"""Once for each database in a process."""


@contextmanager
def resumed(task: str, name: str, run_id: str | None = None) -> Iterator[Tracked]:
    """Yield the run `run_id` of the experiment of `task`, or a new one if the server does not have it.

    The run ends as failed if the block raises, and as killed if it is interrupted.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    _set_experiment(task)
    with mlflow.start_run(run_id=run_id if run_id and _exists(run_id) else None, run_name=name) as run:
        mlflow.set_tag(COMMIT, git_commit())
        try:
            yield Tracked(run.info.run_id)
        except KeyboardInterrupt:
            mlflow.end_run("KILLED")
            raise


@contextmanager
def nested(task: str, name: str, parent: str, tags: dict[str, str]) -> Iterator[Tracked]:
    """Yield a new run below the run `parent`, which ends as failed, with the reason, if the block raises.

    `tags` may have the commit, for workers whose current folder is not the project's.
    """
    experiment = _set_experiment(task)
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
    """Mark a run whose process was killed as killed, if it is still marked as running."""
    if run_id and _exists(run_id) and client().get_run(run_id).info.status == "RUNNING":
        client().set_terminated(run_id, "KILLED")


def flatten(content: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested mappings as one, with keys joined by dots."""
    flat: dict[str, object] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def git_commit() -> str:
    """Return the commit of the working tree, with `-dirty` if it was changed since; empty outside git or without it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  a fixed command
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip()


def _set_experiment(task: str) -> str:
    """Make the experiment of `task` the current one, and return its id."""
    name = model_name(task)
    if restore_experiment(client(), name):
        log.warning("the experiment %s had been deleted in MLflow; it is restored, with its runs", name)
    return str(mlflow.set_experiment(name).experiment_id)


def _exists(run_id: str) -> bool:
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        if not is_missing(error):
            raise
        return False
    return str(run.info.lifecycle_stage) == "active"
