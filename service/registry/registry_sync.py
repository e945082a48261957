"""Keep a folder of bundles as the registry has them: `python -m service.registry.registry_sync FOLDER [--once]`.

See `service.registry.model_store` for what it fetches and how the folder looks. The first line on standard output says
how it went: `{"serving": {task: version}}` or `{"error": message}`, after which it ends. Then it asks the registry
again every `FATESCOPE_POLL_S` seconds, until its standard input closes, as it does when its parent process is gone.
"""

import argparse
import json
import logging
import os
import select
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported

import mlflow
from mlflow.entities.model_registry import RegisteredModel

from fatescope.errors import BundleError
from fatescope.model_registry import CHAMPION, PREFIX, bundle_uri, model_name
from service.registry.model_store import FOLDER, LISTING, PIN, POLL

log = logging.getLogger(__name__)

POLL_S = 30.0
KEPT = 2
"""Versions of a task that stay: requests may still be answered by the one before."""


def wanted(pins: str | None) -> dict[str, str]:
    """Return task → version in the registry; `pins` is what FATESCOPE_PIN says.

    Raises BundleError where there is none, or one that is pinned does not exist.
    """
    registry = mlflow.get_registry_uri()
    client = mlflow.MlflowClient()
    try:
        if pins:
            return dict(_pinned(client, each.strip()) for each in pins.split(","))
        known: list[RegisteredModel] = client.search_registered_models(filter_string=f"name LIKE '{PREFIX}%'")
    except mlflow.MlflowException as error:
        raise BundleError(f"{registry}: the registry cannot be read ({error}); check MLFLOW_TRACKING_URI") from error
    versions = {
        each.name.removeprefix(PREFIX): str(each.aliases[CHAMPION]) for each in known if CHAMPION in each.aliases
    }
    if not versions:
        raise BundleError(
            f"{registry}: no registered model '{PREFIX}TASK' with the alias '{CHAMPION}'; run `make repro`, or set "
            f"MLFLOW_TRACKING_URI to a registry that has one, or {FOLDER} to a folder of bundles"
        )
    return versions


def _pinned(client: mlflow.MlflowClient, pin: str) -> tuple[str, str]:
    task, _, which = pin.partition("=")
    if not which:
        raise BundleError(f"{PIN}: '{pin}' is not TASK=VERSION; write for example binary=3,multiclass=champion")
    if which.isdecimal():
        return task, str(client.get_model_version(model_name(task), which).version)
    return task, str(client.get_model_version_by_alias(model_name(task), which).version)


def bring(target: Path, versions: dict[str, str]) -> None:
    """Download the bundles of `versions` that `target` does not have, and list them; raises BundleError."""
    for task, version in versions.items():
        place = target / task / version
        if place.exists():
            continue
        place.parent.mkdir(exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=target, prefix=".") as partial:
                # By version, because the alias may have moved on since it was read.
                Path(mlflow.artifacts.download_artifacts(bundle_uri(task, version), dst_path=partial)).rename(place)
        except (mlflow.MlflowException, OSError) as error:
            raise BundleError(f"{model_name(task)} version {version} cannot be fetched: {error}") from error
    listing, partial_listing = target / LISTING, target / f".{LISTING}"
    partial_listing.write_text(json.dumps(versions))
    partial_listing.rename(listing)
    for task, version in versions.items():
        others = sorted((target / task).iterdir(), key=lambda path: path.stat().st_ctime, reverse=True)
        for old in [path for path in others if path.name != version][KEPT - 1 :]:
            shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    """Run as the module says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("--once", action="store_true")
    told = parser.parse_args()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    target, pins = told.target, os.environ.get(PIN)
    target.mkdir(parents=True, exist_ok=True)
    try:
        versions = wanted(pins)
        bring(target, versions)
    except BundleError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        sys.exit(1)
    print(json.dumps({"serving": versions}), flush=True)
    while not told.once and not _closed(float(os.environ.get(POLL, POLL_S))):
        try:
            if (found := wanted(pins)) != versions:
                bring(target, found)
                versions = found
        except BundleError as error:
            # What is served goes on being served.
            log.warning("%s", error)


def _closed(seconds: float) -> bool:
    """Wait for `seconds`; tell whether standard input closed."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and not sys.stdin.read(1)


if __name__ == "__main__":
    main()
