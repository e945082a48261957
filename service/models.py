"""Where the models come from: a folder of bundles, or the champions of the MLflow registry.

`FATESCOPE_BUNDLES` names a folder with one bundle folder a task (`DIR/binary`, `DIR/multiclass`), without a registry.
Without it, every registered model `fatescope-TASK` with the alias `champion` is downloaded into such a folder, from the
registry at `MLFLOW_TRACKING_URI`, else from MLflow's own default in the current folder.

Nothing here reports to anyone: `BENTOML_DO_NOT_TRACK=True` and `MLFLOW_DISABLE_TELEMETRY=true` are set by the Makefile;
the second also here, because MLflow reads it when it is imported.
"""

import atexit
import hashlib
import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipelines.core import bundle
from pipelines.core.bundle import Bundle
from pipelines.core.errors import BundleError

FOLDER = "FATESCOPE_BUNDLES"
"""The environment variable that names a folder of bundles."""
PREFIX, ALIAS = "fatescope-", "champion"
"""What `pipelines.register` calls a task's model, and the version of it that passed the gate."""
VERSIONS = "versions.json"
"""A file in the folder of bundles, task → version in the registry; optional."""
FAVOURITE = "multiclass"
"""The task of a request that names none, where it is served."""
THREADS = 1
"""CPU threads of one model call: requests run beside each other, so more would only compete."""


@dataclass(frozen=True)
class Served:
    """A model that has been checked, and what the registry calls it."""

    bundle: Bundle
    name: str
    """`fatescope-TASK`"""
    version: str
    """The registry's number, or of a bundle folder the start of the hash of its spec."""


def folder() -> Path:
    """Return the folder of bundles, after filling one from the registry where `FATESCOPE_BUNDLES` names none.

    The name is put into the environment, from which worker processes inherit it: the registry is asked once, by the
    process that starts them, and a worker that is started again does not depend on it.
    """
    if not os.environ.get(FOLDER):
        target = tempfile.mkdtemp(prefix=PREFIX)
        atexit.register(shutil.rmtree, target, ignore_errors=True)
        fetch(Path(target))
        os.environ[FOLDER] = target
    return Path(os.environ[FOLDER])


def fetch(target: Path) -> None:
    """Download the bundle of every champion into `target`, one folder a task, and their versions.

    Raises BundleError where the registry has no champion or cannot be read.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # noqa: PLC0415  takes seconds, and a folder of bundles does not need it

    logging.getLogger("alembic").setLevel(logging.WARNING)
    registry = mlflow.get_registry_uri()
    try:
        known = mlflow.MlflowClient().search_registered_models(filter_string=f"name LIKE '{PREFIX}%'")
        versions = {each.name.removeprefix(PREFIX): each.aliases[ALIAS] for each in known if ALIAS in each.aliases}
        for task, version in versions.items():
            # By version, because the alias may have moved on since it was read.
            source = f"models:/{PREFIX}{task}/{version}/artifacts/bundle"
            with tempfile.TemporaryDirectory(dir=target) as partial:
                Path(mlflow.artifacts.download_artifacts(source, dst_path=partial)).rename(target / task)
    except mlflow.MlflowException as error:
        raise BundleError(f"{registry}: the registry cannot be read ({error}); check MLFLOW_TRACKING_URI") from error
    if not versions:
        raise BundleError(
            f"{registry}: no registered model '{PREFIX}TASK' with the alias '{ALIAS}'; run `make repro`, or set "
            f"MLFLOW_TRACKING_URI to a registry that has one, or {FOLDER} to a folder of bundles"
        )
    (target / VERSIONS).write_text(json.dumps({task: str(version) for task, version in versions.items()}))


def load_all(source: Path) -> dict[str, Served]:
    """Return task → model for the bundle folders in `source`, the default task first.

    Raises BundleError where there is none, and for one that does not load or does not reproduce its test tensors: it is
    not served, and the others are not served beside it as if nothing were wrong.
    """
    paths = {path.name: path for path in source.glob("[!.]*") if path.is_dir()}
    if not paths:
        raise BundleError(f"{FOLDER}={source}: no bundle folder in it; run `make repro`, or name another folder")
    listed = source / VERSIONS
    versions = json.loads(listed.read_text()) if listed.exists() else {}
    tasks = sorted(paths, key=lambda task: (task != FAVOURITE, task))
    return {task: _load(paths[task], task, versions.get(task)) for task in tasks}


def _load(path: Path, task: str, version: str | None) -> Served:
    try:
        loaded = bundle.load(path, THREADS)
        loaded.check()
    except BundleError as error:
        raise BundleError(f"{PREFIX}{task} version {version or 'of no registry'} is not served: {error}") from error
    if loaded.spec.task != task:
        raise BundleError(f"{path}: a bundle of task '{loaded.spec.task}'; name the folder after its task")
    digest = hashlib.sha256((path / bundle.SPEC).read_bytes()).hexdigest()
    return Served(loaded, PREFIX + task, version or digest[:12])
