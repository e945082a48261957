"""Keep a folder of bundles in step with the registry: `python -m service.registry.registry_sync FOLDER [--once]`.

`service.registry.model_store` describes the versions and the folder. The first line on standard output is the result of
the first download, `{"serving": {task: version}}`, or `{"error": message}`, after which the program ends. Then it
queries the registry every `FATESCOPE_POLL_S` seconds until its standard input closes, as it does when its parent
process ends.
"""

import json
import logging
import os
import select
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from fatescope.atomic import replacing

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported

import mlflow
import typer
from mlflow.entities.model_registry import RegisteredModel

from fatescope import artifact_places
from fatescope.command import run
from fatescope.errors import BundleError, FatescopeError
from fatescope.model_registry import CHAMPION, PREFIX, bundle_uri, model_name
from service.registry.model_store import LISTING
from service.settings import ServiceSettings, variable

log = logging.getLogger(__name__)

KEPT_VERSIONS = 2
"""Versions of a task that stay on disk: the previous one may still answer requests."""


def target_versions(pins: Mapping[str, str] | None) -> dict[str, str]:
    """Return task → version in the registry: those of `pins` (versions or aliases), else all champions.

    Raises BundleError if there is none, or if a pinned version does not exist.
    """
    registry = mlflow.get_registry_uri()
    client = mlflow.MlflowClient()
    try:
        if pins:
            return {task: _resolve(client, task, version) for task, version in pins.items()}
        models: list[RegisteredModel] = client.search_registered_models(filter_string=f"name LIKE '{model_name('%')}'")
    except mlflow.MlflowException as error:
        raise BundleError(f"{registry}: the registry cannot be read ({error}); check MLFLOW_TRACKING_URI") from error
    champions = {
        model.name.removeprefix(PREFIX): str(model.aliases[CHAMPION]) for model in models if CHAMPION in model.aliases
    }
    if not champions:
        raise BundleError(
            f"{registry}: no registered model '{PREFIX}TASK' with the alias '{CHAMPION}'; run `make repro`, set "
            f"MLFLOW_TRACKING_URI to a registry that has one, or set {variable('bundles')} to a folder of bundles"
        )
    return champions


def _resolve(client: mlflow.MlflowClient, task: str, version: str) -> str:
    """Return the number of a version that is given by number or alias."""
    if version.isdecimal():
        return str(client.get_model_version(model_name(task), version).version)
    return str(client.get_model_version_by_alias(model_name(task), version).version)


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
        versions = target_versions(settings.pin)
        download(target, versions)
    except FatescopeError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        raise typer.Exit(1) from error
    print(json.dumps({"serving": versions}), flush=True)
    if not once:
        _follow(target, versions, settings)


def _follow(target: Path, versions: dict[str, str], settings: ServiceSettings) -> None:
    """Download new versions as the registry names them, until standard input closes."""
    while not _is_closed(settings.poll_s):
        try:
            if (current := target_versions(settings.pin)) != versions:
                download(target, current)
                versions = current
        except BundleError as error:
            # The versions that are served stay in service.
            log.warning("%s", error)


def _is_closed(timeout_s: float) -> bool:
    """Return whether standard input closes within `timeout_s`."""
    readable, _, _ = select.select([sys.stdin], [], [], timeout_s)
    return bool(readable) and not sys.stdin.read(1)


if __name__ == "__main__":
    run(main)
