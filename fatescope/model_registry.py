"""What the pipeline writes to the MLflow registry and the service reads there: names, aliases, bundles of versions."""

import hashlib
import os
import posixpath
import re
from pathlib import Path
from typing import Any

PREFIX = "fatescope-"
"""Registered models and experiments are called this, followed by the task."""
CHAMPION = "champion"
"""Alias of the version that is served: the last one that passed the gate."""
CHALLENGER = "challenger"
"""Alias of the version that was registered last."""
MAX_KEY = 250
"""Characters of the name of a metric that MLflow keeps."""
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
"""What the environment needs before MLflow is imported, where nobody has set it: MLflow reports its use to nobody, and
draws no bar for each bundle among the lines of a command."""
_REFUSED = re.compile(r"[^\w\-. /]")
"""What MLflow takes in no name of a metric, and the colon, which begins and ends an escape."""


def is_there() -> bool:
    """Return whether MLflow has a registry to read: a named one, or that of this folder. It would make an empty one."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or Path("mlflow.db").exists()


def model_name(task: str) -> str:
    """Return the name of the registered model of `task`."""
    return PREFIX + task


def bundle_uri(task: str, version: str) -> str:
    """Return the address of the bundle of a version, given by its number, for `mlflow.artifacts`."""
    return f"models:/{model_name(task)}/{version}/artifacts/bundle"


def is_missing(error: Exception) -> bool:
    """Return whether an error of MLflow says that something does not exist, and not that it could not find out."""
    # INVALID_PARAMETER_VALUE: an alias that no version has, or an id of another form.
    return getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def metric_key(name: str) -> str:
    """Return a name that MLflow accepts for the metric `name`, another one for each: `CD4+` becomes `CD4:2b:`.

    Names of classes are parts of it, and may have any characters; `metric_name` is the inverse. A key that would be
    longer than MAX_KEY ends in a hash instead, and has no inverse.
    """
    key = _REFUSED.sub(_escape, name)
    if posixpath.normpath(key) != key or key.startswith(("/", "..")):
        # MLflow treats it as a path, which must be the shortest one to its place.
        key = key.replace("/", _escape("/"))
        key = key if key.strip(".") else key.replace(".", _escape("."))
    if len(key) > MAX_KEY:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        key = f"{key[: MAX_KEY - len(digest) - 1].rstrip('/.')}-{digest}"
    return key


def metric_name(key: str) -> str:
    """Return the name of a metric from the key that MLflow has it under."""
    return re.sub(r":([0-9a-f]+):", lambda match: chr(int(match[1], 16)), key)


def _escape(character: "re.Match[str] | str") -> str:
    return f":{ord(character if isinstance(character, str) else character[0]):x}:"


def restore_experiment(client: Any, name: str) -> bool:  # noqa: ANN401  MlflowClient, which the library does not import
    """Restore the experiment `name` where somebody has deleted it, and return whether that was so.

    MLflow keeps what was deleted, and refuses to make another experiment of the same name.
    """
    experiment = client.get_experiment_by_name(name)
    deleted = experiment is not None and experiment.lifecycle_stage == "deleted"
    if deleted:
        client.restore_experiment(experiment.experiment_id)
    return deleted
