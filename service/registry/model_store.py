"""Which bundles are served, and where they lie on this machine.

- `FATESCOPE_BUNDLES` names a folder with one bundle folder a task (`DIR/binary`, `DIR/multiclass`): no registry needed.
- A Bento made by `make bento` holds such a folder itself.
- Otherwise the versions come from the MLflow registry at `MLFLOW_TRACKING_URI`, else from MLflow's own default in the
  current folder: of every registered model `fatescope-TASK` the one with the alias `champion`, or the one that
  `FATESCOPE_PIN` names (`binary=3,multiclass=champion`: a version or an alias; other tasks are left out).
  `service.registry.registry_sync` keeps a folder of them up to date, `DIR/TASK/VERSION` with `DIR/champions.json`, and
  whoever serves looks there: MLflow takes 3 s and 200 MB to import, and a registry that is away stops nobody.
"""

import atexit
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import TypedDict

from fatescope.errors import BundleError
from fatescope.inference import bundle
from fatescope.model_registry import PREFIX, model_name

FOLDER, PIN, POLL = "FATESCOPE_BUNDLES", "FATESCOPE_PIN", "FATESCOPE_POLL_S"
SOURCE = Path(__file__).parents[2]
EMBEDDED = SOURCE / "champions"
"""Where a Bento has its bundles."""
LISTING = "champions.json"
"""Task → version, in a folder that comes from a registry."""
FAVOURITE = "multiclass"
"""The task of a request that names none, where it is served."""


@dataclass(frozen=True)
class Champion:
    """A version of a task's model."""

    task: str
    version: str
    """The registry's number; of a bundle folder, the start of the hash of its spec."""
    path: Path
    """Its bundle."""

    @property
    def name(self) -> str:
        """Return the name of the registered model."""
        return model_name(self.task)


class Readiness(TypedDict):
    """What a runner says of a version that it was asked to prepare."""

    engine: str
    """What runs it; empty where nothing does."""
    error: str | None
    """Why it is not served, for people."""


def folder() -> Path:
    """Return the folder of bundles; raises BundleError where none has been settled on."""
    if os.environ.get(FOLDER):
        return Path(os.environ[FOLDER])
    if _is_embedded():
        return EMBEDDED
    raise BundleError(f"{FOLDER} is not set; name a folder of bundles, or start the whole service")


def settle() -> None:
    """Make sure that there is a folder of bundles, and start to follow the registry where it comes from there.

    The name is put into the environment, from which worker processes inherit it. Raises BundleError where the registry
    has no champion or cannot be read.
    """
    if os.environ.get(FOLDER) or _is_embedded():
        return
    target = tempfile.mkdtemp(prefix=PREFIX)
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    command = [sys.executable, "-m", "service.registry.registry_sync", target]
    # It ends when this process does, however that comes about: the pipe closes.
    follower = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own
    assert follower.stdout is not None
    said = follower.stdout.readline().strip()
    if not said:
        raise BundleError("the registry cannot be followed: registry_sync ended; see its message above")
    if error := json.loads(said).get("error"):
        raise BundleError(error)
    _FOLLOWERS.append(follower)
    os.environ[FOLDER] = target


_FOLLOWERS: list[subprocess.Popen[str]] = []
"""Kept, because a follower ends when the pipe to it is collected as garbage."""


def listed(source: Path) -> dict[str, Champion]:
    """Return task → version to serve, of the bundles in `source`, the default task first.

    Raises BundleError where there is none.
    """
    listing = source / LISTING
    if listing.exists():
        versions: dict[str, str] = json.loads(listing.read_text())
        found = {task: Champion(task, version, source / task / version) for task, version in versions.items()}
    else:
        paths = [path for path in source.glob("[!.]*") if path.is_dir()]
        found = {path.name: Champion(path.name, digest(path), path) for path in paths}
    if not found:
        raise BundleError(f"{FOLDER}={source}: no bundle folder in it; run `make repro`, or name another folder")
    return {task: found[task] for task in sorted(found, key=lambda task: (task != FAVOURITE, task))}


def locate(source: Path, task: str, version: str) -> Path:
    """Return the bundle of a version in `source`, which may be one that has just been replaced; raises BundleError."""
    champion = listed(source).get(task)
    if champion is None:
        raise BundleError(f"{source}: no bundle of task '{task}'")
    if champion.version == version:
        return champion.path
    path = source / task / version
    if not (path / bundle.SPEC).is_file():
        raise BundleError(f"{source}: version {version} of {model_name(task)} is not here (any more)")
    return path


def read_spec(champion: Champion) -> bundle.Spec:
    """Read the spec of a bundle that is whole; raises BundleError, also where it is of another task."""
    try:
        spec = bundle.open_spec(champion.path)
    except BundleError as error:
        raise BundleError(f"{champion.name} version {champion.version} is not served: {error}") from error
    if spec.task != champion.task:
        raise BundleError(f"{champion.path}: a bundle of task '{spec.task}'; name the folder after its task")
    return spec


def _is_embedded() -> bool:
    # Beside the sources of a Bento lies its description; in the project, what `make bento` fetched is not to be served.
    return EMBEDDED.is_dir() and (SOURCE.parent / "bento.yaml").is_file()


def digest(path: Path) -> str:
    """Return what names the bundle in a folder, the start of the hash of its spec; raises BundleError without one."""
    spec = path / bundle.SPEC
    if not spec.is_file():
        raise BundleError(f"{path}: not a bundle (no {bundle.SPEC}); train one with `dvc repro train`")
    return hashlib.sha256(spec.read_bytes()).hexdigest()[:12]
