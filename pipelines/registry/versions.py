"""The versions of a registered model in MLflow, their aliases and their tags.

Tags of a version: `bundle` (SHA-256 of the spec as trained), `attestation` (that of `attestation.json` in it),
`data_hash`, `git_commit`, `splits_hash`, `split` (the scheme), `audit`, `confounded`, `balanced_accuracy` with
`balanced_accuracy.low` and `.high`, `replaced` (the champion before it), `signed_by` (for people: what is verified is
the signature in the bundle), and as JSON `gate` (a `records.Verdict`, continued in `gate.0`, `gate.1` … where it is too
long for one tag), `promoted` (a `records.Promotion`: a person made it the champion, not the gate) and `rolled_back` (a
`records.Rollback`).
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from fatescope.errors import BundleError, DataError, FatescopeError
from fatescope.inference import bundle
from fatescope.model_registry import PREFIX, bundle_uri, is_missing, model_name
from fatescope.signing import signature
from fatescope.signing.settings import SigningSettings
from fatescope.signing.signature import UnsignedError
from pipelines.registry.records import Promotion, Rollback, Verdict, VersionSummary
from pipelines.registry.tracking import client

log = logging.getLogger(__name__)

MAX_TAG = 5000
"""Characters of a tag or a description that MLflow keeps."""


def list_versions(task: str) -> list[ModelVersion]:
    """Return all versions of `task`, newest first."""
    versions = client().search_model_versions(f"name = '{model_name(task)}'")
    return sorted(versions, key=lambda version: -int(version.version))


def require(task: str) -> list[ModelVersion]:
    """Return the same; raises BundleError where there is none."""
    if known := list_versions(task):
        return known
    raise BundleError(describe_missing(task))


def get_by_alias(task: str, alias: str) -> ModelVersion | None:
    """Return the version that has `alias`, if any."""
    try:
        return client().get_model_version_by_alias(model_name(task), alias)
    except MlflowException as error:
        if not is_missing(error):
            raise
        return None


def find(task: str, version: str) -> ModelVersion:
    """Return a version by its number or alias; raises BundleError where there is none."""
    name, registry = model_name(task), client()
    try:
        if version.isdecimal():
            return registry.get_model_version(name, version)
        return registry.get_model_version_by_alias(name, version)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise BundleError(describe_missing(task, version)) from error


def describe_missing(task: str | None, version: str = "") -> str:
    """Return what is said where `task`, or any task, has no version, or not the one that was asked for."""
    place = mlflow.get_registry_uri()
    name = model_name(task) if task else "registry"
    if version and task and list_versions(task):
        return f"{name}: no version '{version}' in {place}; `fatescope models list {task}` prints those that there are"
    tasks = sorted(str(model.name).removeprefix(PREFIX) for model in client().search_registered_models())
    others = f" there are versions of {', '.join(tasks)}, and" if tasks else ""
    asked = f" '{version}'" if version else ""
    return f"{name}: no version{asked} in {place};{others} `fatescope repro` registers one"


def next_number(task: str) -> str:
    """Return the number that the next version of `task` will have."""
    return str(1 + max((int(version.version) for version in list_versions(task)), default=0))


def find_by_bundle(task: str, digest: str) -> ModelVersion | None:
    """Return the version that was made from the bundle whose spec has this SHA-256, if any."""
    return next((version for version in list_versions(task) if version.tags.get("bundle") == digest), None)


def number_of(task: str, version: str) -> str:
    """Return the number of `version`, a number or an alias; raises BundleError where there is no such version."""
    name, registry = model_name(task), client()
    try:
        number = version if version.isdigit() else str(registry.get_model_version_by_alias(name, version).version)
        registry.get_model_version(name, number)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise BundleError(describe_missing(task, version)) from error
    return number


@contextmanager
def download(task: str, version: str, *, unsigned: bool = False) -> Iterator[Path]:
    """Yield a temporary folder with the bundle of `version`, a number or an alias, once its signature is verified.

    With `unsigned`, it need not have one. Raises BundleError where there is no such version, its files are gone or its
    signature is refused, and FatescopeError where they cannot be fetched now.
    """
    name, number = model_name(task), number_of(task, version)
    place = client().get_model_version_download_uri(name, number)
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        try:
            path = _fetch(bundle_uri(task, number), Path(folder))
        except (MlflowException, OSError) as error:
            raise FatescopeError(
                f"{name}: the files of version {number} cannot be fetched from {place} ({_first_line(error)}); try "
                "again when they can be reached"
            ) from error
        if path is None:
            raise BundleError(
                f"{name}: the files of version {number} are gone from {place}; bring them back, or run `dvc repro "
                "register` where the bundle was trained"
            )
        try:
            settings, called = SigningSettings.read(), f"{name} version {number}"
            if warning := signature.verify(path, settings, registry=True, name=called).warning:
                log.warning("%s", warning)
        except UnsignedError as error:
            if not unsigned:
                raise UnsignedError(str(error).replace("TASK VERSION", f"{task} {number}")) from error
        yield path


def _fetch(address: str, folder: Path) -> Path | None:
    """Download the artifacts at `address` into `folder`, and return their place there; None where there are none."""
    # An empty list is an answer; the errors of a download say the same of a lost file and of a server that is away.
    if not mlflow.artifacts.list_artifacts(address):
        return None
    return Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder)))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def find_damage(task: str, version: str) -> str | None:
    """Return what is lost or changed of the bundle of `version`, if so; raises FatescopeError as `download` does."""
    try:
        # One without a signature is as it was made: to sign it is for a person to decide.
        with download(task, version, unsigned=True) as folder:
            bundle.open_spec(folder)
    except BundleError as error:
        return str(error)
    return None


def set_tags(task: str, version: str, tags: dict[str, str]) -> None:
    """Set tags of a version; raises DataError, and sets none, where one is longer than MLflow keeps."""
    for key, value in tags.items():
        if len(value) > MAX_TAG:
            raise DataError(
                f"'{key}' has {len(value)} characters, of which MLflow keeps {MAX_TAG}; give a shorter text"
            )
    for key, value in tags.items():
        client().set_model_version_tag(model_name(task), version, key, value)


def verdict_of(version: ModelVersion) -> Verdict | None:
    """Return what the gate decided on a version, if it did."""
    return Verdict.from_tags(version.tags)


def earlier_looks(task: str) -> tuple[frozenset[str] | None, ...]:
    """Return the digests of the test groups of each comparison with a champion; None where a verdict has not kept them.

    Whether it was promoted does not matter: a version that was refused has been looked at too.
    """
    verdicts = [verdict_of(version) for version in list_versions(task)]
    compared = [verdict.criteria.get("better") for verdict in verdicts if verdict is not None]
    return tuple(
        None if criterion.groups is None else frozenset(criterion.groups)
        for criterion in compared
        # Without a value there was no comparison.
        if criterion is not None and criterion.value is not None
    )


def history(task: str, without: str | None = None) -> list[VersionSummary]:
    """Return the versions of `task`, newest first, except the version `without`."""
    return [_summarise(version) for version in list_versions(task) if str(version.version) != without]


def _summarise(version: ModelVersion) -> VersionSummary:
    tags, verdict = version.tags, verdict_of(version)
    return VersionSummary(
        version=str(version.version),
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M"),
        balanced_accuracy=tags.get("balanced_accuracy", "missing"),
        verdict="missing" if verdict is None else verdict.outcome,
        note=note_on(version),
    )


def note_on(version: ModelVersion) -> str:
    """Return in words, in the order of time, what people did with a version: promoted it, rolled it back."""
    tags, records = version.tags, list[tuple[str, Promotion | Rollback]]()
    if "promoted" in tags:
        records.append(("promoted", Promotion.model_validate_json(tags["promoted"])))
    if "rolled_back" in tags:
        records.append(("rolled back", Rollback.model_validate_json(tags["rolled_back"])))
    records.sort(key=lambda item: item[1].when)
    return "; ".join(f"{act} by {record.who} on {record.when[:10]}: {record.why}" for act, record in records)
