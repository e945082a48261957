"""Keep a folder of bundles in step with the registry: `python -m service.registry.registry_sync FOLDER [--once]`.

`service.registry.model_store` describes the versions and the folder. The first line on standard output is the result of
the first download, `{"serving": {task: version}}`, or `{"error": message}`, after which the program ends. Then it
queries the registry every `FATESCOPE_POLL_S` seconds, with a line of the same kind for each query, until its standard
input closes, as it does when its parent process ends. In a folder that has been followed before, it goes on after an
error from the start.

A version whose alias is gone is taken off the list, but only where the registry says so: that it cannot be read, or is
empty altogether as after the loss of its database, changes nothing.
"""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

from fatescope.atomic import replacing

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported

import mlflow
import typer
from mlflow.entities.model_registry import RegisteredModel

from fatescope import artifact_places
from fatescope.command import run
from fatescope.errors import BundleError, FatescopeError
from fatescope.model_registry import CHAMPION, PREFIX, bundle_uri, is_missing, model_name
from service.registry.model_store import LISTING, follows_registry, read_champions
from service.settings import ServiceSettings, variable

KEPT_VERSIONS = 2
"""Versions of a task that stay on disk: the previous one may still answer requests."""


def target_versions(pins: Mapping[str, str] | None) -> dict[str, str]:
    """Return task → version in the registry: those of `pins` (versions or aliases), else all champions.

    Raises BundleError if there is none, or if a pinned version does not exist.
    """
    versions = _current_versions(pins)
    if pins and (missing := sorted(pins.keys() - versions.keys())):
        named = ", ".join(f"{model_name(task)} version {pins[task]}" for task in missing)
        raise BundleError(f"{mlflow.get_registry_uri()}: there is no {named}; correct {variable('pin')}")
    if not versions:
        raise BundleError(
            f"{mlflow.get_registry_uri()}: no registered model '{PREFIX}TASK' with the alias '{CHAMPION}'; run `make "
            f"repro`, set MLFLOW_TRACKING_URI to a registry that has one, or set {variable('bundles')} to a folder of "
            "bundles"
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


def _current_versions(pins: Mapping[str, str] | None) -> dict[str, str]:
    client = mlflow.MlflowClient()
    if pins:
        found = {task: _find(client, task, version) for task, version in pins.items()}
        return {task: version for task, version in found.items() if version}
    return {
        model.name.removeprefix(PREFIX): str(model.aliases[CHAMPION])
        for model in _models(client)
        if CHAMPION in model.aliases
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


def download(target: Path, versions: dict[str, str]) -> None:
    """Download the bundles of `versions` that `target` does not have yet, and list them; raises BundleError."""
    target.mkdir(parents=True, exist_ok=True)
    for task, version in versions.items():
        folder = target / task / version
        if folder.exists():
            continue
        folder.parent.mkdir(exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=target, prefix=".") as partial:
                # By version, because the alias may have moved since it was read.
                source = bundle_uri(task, version)
                Path(mlflow.artifacts.download_artifacts(source, dst_path=partial)).rename(folder)
        except (mlflow.MlflowException, OSError) as error:
            raise BundleError(f"{model_name(task)} version {version} cannot be downloaded: {error}") from error
    with replacing(target / LISTING) as part:
        part.write_text(json.dumps(versions), encoding="utf-8")
    for task, version in versions.items():
        newest_first = sorted((target / task).iterdir(), key=lambda path: path.stat().st_ctime, reverse=True)
        for outdated in [path for path in newest_first if path.name != version][KEPT_VERSIONS - 1 :]:
            shutil.rmtree(outdated, ignore_errors=True)


def main(
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of bundles.")],
    *,
    once: Annotated[bool, typer.Option("--once", help="End after the first download.")] = False,
) -> None:
    """Keep a folder of bundles in step with the registry, until standard input closes."""
    try:
        settings = ServiceSettings.read()
        artifact_places.put_right(Path.cwd(), mlflow.get_tracking_uri())
        if follows_registry(target) and not once:
            # Another follower has ended, and what it fetched is served.
            served = {task: champion.version for task, champion in read_champions(target).items()}
        else:
            served = target_versions(settings.pin)
            download(target, served)
            _report(serving=served)
    except FatescopeError as error:
        _report(error=str(error))
        raise typer.Exit(1) from error
    if not once:
        _follow(target, served, settings)


def _follow(target: Path, served: dict[str, str], settings: ServiceSettings) -> NoReturn:
    """Download new versions as the registry names them, until standard input closes."""
    _end_with_parent()
    while True:
        time.sleep(settings.poll_s)
        try:
            if (current := followed_versions(settings.pin, served)) != served:
                download(target, current)
                served = current
        except BundleError as error:
            # The versions that are served stay in service.
            _report(error=str(error))
        else:
            _report(serving=served)


def _report(**content: object) -> None:
    print(json.dumps(content), flush=True)


def _end_with_parent() -> None:
    """End this process as soon as standard input closes; a query of a registry that is away takes minutes."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    run(main)
