"""Keep a folder of bundles in step with the registry: `python -m service.registry.registry_sync FOLDER [--once]`.

`service.registry.model_store` describes the versions and the folder. The first line on standard output is the result of
the first download, `{"serving": {task: version}}`, or `{"error": message}`, after which the program ends. Then it
queries the registry every `FATESCOPE_POLL_S` seconds, with a line of the same kind for each query, until its standard
input closes, as it does when its parent process ends. In a folder that has been followed before, it goes on after an
error from the start.

A version is listed once its signature is verified; one that is refused is tried again every REFUSED_RETRY_S, since it
may be signed meanwhile, and the version before it stays. A version whose alias is gone is taken off the list, but only
where the registry says so: that it cannot be read, or is empty altogether as after the loss of its database, changes
nothing.

Every LOOK_S seconds, or with each query where these are more often, aliases that somebody moved by hand are entered
into the audit log (`fatescope.alias_moves`), those of versions that are not served too.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

from fatescope.atomic import replacing

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported

import mlflow
import typer
from mlflow.entities.model_registry import RegisteredModel

from fatescope import artifact_places
from fatescope.alias_moves import AliasWatch, Version
from fatescope.command import run
from fatescope.errors import BundleError, FatescopeError
from fatescope.model_registry import CHALLENGER, CHAMPION, PREFIX, bundle_uri, is_missing, model_name
from fatescope.signing.signature import SignatureError
from service.registry import challengers, signatures
from service.registry.model_store import LISTING, REFUSED, Refused, follows_registry, read_champions
from service.settings import ServiceSettings, variable

REFUSED_RETRY_S = 60.0
LOOK_S = 10.0
"""Time between two looks at the aliases: a move by hand is to be in the audit log within 30 s."""
KEPT_VERSIONS = 2
"""Versions of a task that stay on disk: the previous one may still answer requests."""
_TASK = re.compile(r"[\w-]+")
"""Tasks become folders. MLflow takes `fatescope-..` for a name too, by which what is beside the store would go."""


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


def download(target: Path, versions: dict[str, str]) -> dict[str, Refused]:
    """Download the bundles of `versions` that `target` does not have yet, and list them.

    Return those that their signature rules out: the previous version of the task stays listed, if there is one. Raises
    BundleError where one cannot be downloaded.
    """
    target.mkdir(parents=True, exist_ok=True)
    before = {task: champion.version for task, champion in read_champions(target).items() if follows_registry(target)}
    listed, refused = dict[str, str](), dict[str, Refused]()
    for task, version in versions.items():
        folder = target / task / version
        if folder.exists():
            listed[task] = version
            continue
        folder.parent.mkdir(exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=target, prefix=".") as partial:
                # By version, because the alias may have moved since it was read.
                source = bundle_uri(task, version)
                downloaded = Path(mlflow.artifacts.download_artifacts(source, dst_path=partial))
                signatures.verify(downloaded, registry=True, warn=True, name=f"{model_name(task)} version {version}")
                downloaded.rename(folder)
                listed[task] = version
        except SignatureError as error:
            refused[task] = Refused(version, str(error).removeprefix(f"{model_name(task)} version {version}: "))
            if task in before:
                listed[task] = before[task]
        # Stores of artifacts have errors of their own, which MLflow passes on.
        except Exception as error:
            raise BundleError(f"{model_name(task)} version {version} cannot be downloaded: {error}") from error
    with replacing(target / REFUSED) as part:
        part.write_text(json.dumps({task: asdict(found) for task, found in refused.items()}), encoding="utf-8")
    with replacing(target / LISTING) as part:
        part.write_text(json.dumps(listed), encoding="utf-8")
    for task, version in listed.items():
        newest_first = sorted((target / task).iterdir(), key=lambda path: path.stat().st_ctime, reverse=True)
        for outdated in [path for path in newest_first if path.name != version][KEPT_VERSIONS - 1 :]:
            shutil.rmtree(outdated, ignore_errors=True)
    return refused


@dataclass(frozen=True)
class Challenging:
    """What was last fetched of challengers: task → version, whether some were refused, and when these are due again."""

    versions: dict[str, str] | None = None
    refused: bool = False
    retry_at: float = 0.0


def sync_challengers(store: Path, champions: Mapping[str, str], last: Challenging | None = None) -> Challenging:
    """Bring the challengers in step with the registry; what goes wrong is reported, and tried again at the next query.

    `champions` is task → version in service, which go on whatever becomes of their challengers. `last` is what was
    returned at the last query: a version that was refused is fetched again every REFUSED_RETRY_S only.
    """
    last = last or Challenging()
    try:
        versions = challenging_versions(champions)
        if versions == last.versions and not (last.refused and time.monotonic() >= last.retry_at):
            return last
        refused = download(challengers.folder(store), versions)
        for task, found in refused.items():
            print(_refusal(task, found), file=sys.stderr, flush=True)
        return Challenging(versions, bool(refused), time.monotonic() + REFUSED_RETRY_S)
    except Exception as error:  # noqa: BLE001  whatever it is, the champions are followed
        print(f"the challengers are not in step with the registry: {error}", file=sys.stderr, flush=True)
        return last


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
            if refused := download(target, served):
                raise BundleError("; ".join(_refusal(task, found) for task, found in refused.items()))
            _report(serving=served)
            # Nobody waits for them.
            if settings.challenged:
                sync_challengers(target, served)
    except FatescopeError as error:
        _report(error=str(error))
        raise typer.Exit(1) from error
    if not once:
        _follow(target, served, settings)


def _follow(target: Path, served: dict[str, str], settings: ServiceSettings) -> NoReturn:
    """Download new versions as the registry names them, until standard input closes."""
    _end_with_parent()
    watch = AliasWatch(settings.audit_log) if settings.audit_log else None
    refused, retry_at, due = dict[str, Refused](), 0.0, time.monotonic() + settings.poll_s
    challenging: Challenging | None = None
    while True:
        time.sleep(min(settings.poll_s, LOOK_S))
        if watch is not None:
            _note_moves(watch)
        if time.monotonic() < due:
            continue
        due = time.monotonic() + settings.poll_s
        try:
            current = followed_versions(settings.pin, served)
            if current != served or (refused and time.monotonic() >= retry_at):
                refused, retry_at = download(target, current), time.monotonic() + REFUSED_RETRY_S
                served = current
        # The second where the disk is full, for example.
        except (BundleError, OSError) as error:
            # The versions that are served stay in service.
            _report(error=str(error))
        else:
            _report(serving=served)
            if settings.challenged:
                challenging = sync_challengers(target, served, challenging)


def _refusal(task: str, refused: Refused) -> str:
    return f"{model_name(task)} version {refused.version} is not served: {refused.reason}"


def _note_moves(watch: AliasWatch) -> None:
    """Enter aliases that were moved by hand into the audit log; what keeps it from that is reported as an error."""
    try:
        client = mlflow.MlflowClient()
        current = {
            (str(model.name), str(alias)): str(version)
            for model in _models(client)
            for alias, version in model.aliases.items()
        }
        # One that is empty altogether has rather lost its database than its aliases.
        if current:
            watch.look(current, partial(_describe, client))
    except FatescopeError as error:
        _report(error=str(error))
    except Exception as error:  # noqa: BLE001  whatever it is, the champions are followed
        _report(error=f"aliases moved by hand are not noticed: {type(error).__name__}: {error}")


def _describe(client: mlflow.MlflowClient, model: str, number: str) -> Version | None:
    with _reading():
        try:
            version = client.get_model_version(model, number)
        except mlflow.MlflowException as error:
            if not is_missing(error):
                raise
            return None
    return Version(version.tags, datetime.fromtimestamp(version.creation_timestamp / 1000, UTC))


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
