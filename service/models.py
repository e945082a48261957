"""Where the models come from: a folder of bundles, or the champions of the MLflow registry.

`FATESCOPE_BUNDLES` names a folder with one bundle folder a task (`DIR/binary`, `DIR/multiclass`) and needs no registry.
Without it, every registered model `fatescope-TASK` with the alias `champion` is served, from the registry at
`MLFLOW_TRACKING_URI`, else from MLflow's own default in the current folder.

Nothing here reports to anyone: `BENTOML_DO_NOT_TRACK=True` and `MLFLOW_DISABLE_TELEMETRY=true` are set by the Makefile;
the second also here, because MLflow reads it when it is imported.
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.core import bundle
from pipelines.core.bundle import Bundle
from pipelines.core.errors import BundleError

log = logging.getLogger(__name__)

FOLDER = "FATESCOPE_BUNDLES"
"""The environment variable that names a folder of bundles."""
PREFIX, ALIAS = "fatescope-", "champion"
"""What `pipelines.register` calls a task's model, and the version of it that passed the gate."""
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


def load_all() -> dict[str, Served]:
    """Return task → model, the default task first.

    Raises BundleError where there is no model, or one that does not load or does not reproduce its test tensors: such a
    model is never served, and neither are the others beside it as if nothing were wrong.
    """
    folder = os.environ.get(FOLDER)
    found = dict(_from_folder(Path(folder)) if folder else _from_registry())
    return {task: found[task] for task in sorted(found, key=lambda task: (task != FAVOURITE, task))}


def _from_folder(folder: Path) -> Iterator[tuple[str, Served]]:
    paths = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
    if not paths:
        raise BundleError(f"{FOLDER}={folder}: no bundle folder in it; run `make repro`, or name another folder")
    for path in paths:
        spec = bundle.read_spec(path)
        if spec.task != path.name:
            raise BundleError(f"{path}: a bundle of task '{spec.task}'; name the folder after its task")
        version = hashlib.sha256((path / bundle.SPEC).read_bytes()).hexdigest()[:12]
        yield spec.task, _load(path, PREFIX + spec.task, version)


def _from_registry() -> Iterator[tuple[str, Served]]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # noqa: PLC0415  takes seconds, and a folder of bundles does not need it

    logging.getLogger("alembic").setLevel(logging.WARNING)
    registered = mlflow.MlflowClient().search_registered_models(filter_string=f"name LIKE '{PREFIX}%'")
    champions = {each.name: str(each.aliases[ALIAS]) for each in registered if ALIAS in each.aliases}
    if not champions:
        raise BundleError(
            f"{mlflow.get_tracking_uri()}: no registered model {PREFIX}TASK with the alias '{ALIAS}'; run `make repro`, "
            f"or set MLFLOW_TRACKING_URI to a registry or {FOLDER} to a folder of bundles"
        )
    for name, version in sorted(champions.items()):
        # By version, not by alias, which may have moved on since it was read.
        with tempfile.TemporaryDirectory(prefix=PREFIX) as target:
            source = f"models:/{name}/{version}/artifacts/bundle"
            path = Path(mlflow.artifacts.download_artifacts(source, dst_path=target))
            yield name.removeprefix(PREFIX), _load(path, name, version)


def _load(path: Path, name: str, version: str) -> Served:
    try:
        loaded = bundle.load(path, THREADS)
        loaded.check()
    except BundleError as error:
        raise BundleError(f"{name} version {version} is not served: {error}") from error
    log.info("%s version %s: %s", name, version, ", ".join(loaded.spec.classes))
    return Served(loaded, name, version)
