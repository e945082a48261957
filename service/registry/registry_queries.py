"""What the follower asks the MLflow registry: which versions there are, their files, and where aliases point.

The only module of the service that imports MLflow, which takes 3 s and 200 MB.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fatescope.model_registry import (
    CHALLENGER,
    CHAMPION,
    PREFIX,
    QUIET,
    bundle_uri,
    is_missing,
    is_there,
    model_name,
)

os.environ.update(QUIET | os.environ)

import mlflow
from mlflow.entities.model_registry import RegisteredModel

from fatescope.alias_moves import Version
from fatescope.errors import BundleError
from service.settings import variable

_TASK = re.compile(r"[\w-]+")
"""Tasks become folders. MLflow takes `fatescope-..` for a name too, by which what is beside the store would go."""


def tracking_uri() -> str:
    """Return where the registry is."""
    return str(mlflow.get_tracking_uri())


def target_versions(pins: Mapping[str, str] | None) -> dict[str, str]:
    """Return task → version in the registry: those of `pins` (versions or aliases), else all champions.

    Raises BundleError if there is none, or if a pinned version does not exist.
    """
    if not mlflow.is_tracking_uri_set() and not is_there():
        raise BundleError(
            "no registry: MLFLOW_TRACKING_URI is not set, and this folder has no mlflow.db; run `fatescope repro`, or "
            f"set MLFLOW_TRACKING_URI to a registry or {variable('bundles')} to a folder of bundles"
        )
    versions = _current_versions(pins)
    if pins and (missing := sorted(pins.keys() - versions.keys())):
        named = ", ".join(f"{model_name(task)} version {pins[task]}" for task in missing)
        raise BundleError(f"{mlflow.get_registry_uri()}: there is no {named}; correct {variable('pin')}")
    if not versions:
        raise BundleError(
            f"{mlflow.get_registry_uri()}: no registered model '{PREFIX}TASK' with the alias '{CHAMPION}'; run "
            f"`fatescope repro`, set MLFLOW_TRACKING_URI to a registry that has one, or set {variable('bundles')} to a "
            "folder of bundles"
        )
    return versions


def followed_versions(pins: Mapping[str, str] | None, served: Mapping[str, str]) -> dict[str, str]:
    """Return the same as `target_versions` without the tasks of `served` that are gone, which may be all of them.

    Raises BundleError if the registry cannot be read, or is not the one that `served` came from.
    """
    versions = _current_versions(pins)
    client = mlflow.MlflowClient()
    for task in served.keys() - versions.keys():
        # Asked for by name once more: that it is missing in a list is no answer yet.
        if found := _find(client, task, pins[task] if pins else CHAMPION):
            versions[task] = found
    if served and not versions and not _models(client):
        raise BundleError(
            f"{mlflow.get_registry_uri()}: the registry has no model at all, where it had those of {sorted(served)}; "
            "what is served stays in service. Restore its database, or restart the service where this is meant"
        )
    return versions


def challenging_versions(champions: Mapping[str, str]) -> dict[str, str]:
    """Return task → version with the alias challenger, of the tasks of `champions` that another version serves.

    Raises BundleError if the registry cannot be read.
    """
    client = mlflow.MlflowClient()
    found = {task: _find(client, task, CHALLENGER) for task in champions}
    return {task: version for task, version in found.items() if version and version != champions[task]}


def _current_versions(pins: Mapping[str, str] | None) -> dict[str, str]:
    client = mlflow.MlflowClient()
    if pins:
        found = {task: _find(client, task, version) for task, version in pins.items()}
        return {task: version for task, version in found.items() if version}
    return {
        model.name.removeprefix(PREFIX): str(model.aliases[CHAMPION])
        for model in _models(client)
        if CHAMPION in model.aliases and _TASK.fullmatch(model.name.removeprefix(PREFIX))
    }


def _models(client: mlflow.MlflowClient) -> list[RegisteredModel]:
    """Return the registered models of all tasks, however many; raises BundleError."""
    models, token = list[RegisteredModel](), None
    with _reading():
        while True:
            page = client.search_registered_models(filter_string=f"name LIKE '{model_name('%')}'", page_token=token)
            models += page
            token = page.token
            if not token:
                return models


def _find(client: mlflow.MlflowClient, task: str, version: str) -> str | None:
    """Return the number of a version that is given by number or alias, None if it does not exist."""
    with _reading():
        try:
            if version.isdecimal():
                return str(client.get_model_version(model_name(task), version).version)
            return str(client.get_model_version_by_alias(model_name(task), version).version)
        except mlflow.MlflowException as error:
            if not is_missing(error):
                raise
            return None


@contextmanager
def _reading() -> Iterator[None]:
    """Raise BundleError for whatever goes wrong between here and the registry."""
    try:
        yield
    # Databases and proxies have errors of their own, not all of which MLflow makes its own.
    except Exception as error:
        raise BundleError(
            f"{mlflow.get_registry_uri()}: the registry cannot be read ({error}); check MLFLOW_TRACKING_URI"
        ) from error


def fetch(task: str, version: str, folder: Path) -> Path:
    """Download the bundle of a version into `folder` and return its path; raises what the store of artifacts does."""
    # By version, because the alias may have moved since it was read.
    return Path(mlflow.artifacts.download_artifacts(bundle_uri(task, version), dst_path=str(folder)))


def read_aliases() -> dict[tuple[str, str], str]:
    """Return model and alias → version, of all tasks, served or not; raises BundleError."""
    models = _models(mlflow.MlflowClient())
    return {(str(model.name), str(alias)): str(version) for model in models for alias, version in model.aliases.items()}


def describe_version(model: str, number: str) -> Version | None:
    """Return what the registry says of a version, None if it does not exist; raises BundleError."""
    with _reading():
        try:
            version = mlflow.MlflowClient().get_model_version(model, number)
        except mlflow.MlflowException as error:
            if not is_missing(error):
                raise
            return None
    return Version(version.tags, datetime.fromtimestamp(version.creation_timestamp / 1000, UTC))
