"""The store: which bundles are served, and where they are on this machine.

- `FATESCOPE_BUNDLES` names a folder with one bundle folder per task (`DIR/binary`, `DIR/multiclass`); this needs no
  registry.
- A Bento made by `make bento` contains such a folder.
- Both may have unsigned bundles, unless `FATESCOPE_SIGNATURES` is `required`: whoever names a folder vouches for it.
- Otherwise the versions come from the MLflow registry at `MLFLOW_TRACKING_URI`, or MLflow's default in the current
  folder: for each registered model `fatescope-TASK` the version with the alias `champion`, or the versions in
  `FATESCOPE_PIN`. `service.registry.registry_sync`, a process of its own, keeps them in `DIR/TASK/VERSION` and lists
  the current ones in `DIR/champions.json`: MLflow takes 3 s and 200 MB to import, and the service must go on while the
  registry is down. A task that is not in the list any more has lost its alias, and is served no longer. A version whose
  signature is refused never gets there: `DIR/refused.json` has it with the reason, and the previous one stays.
"""

import atexit
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fatescope.errors import BundleError
from fatescope.inference import bundle
from fatescope.model_registry import PREFIX, model_name
from service.registry import follower, signatures
from service.settings import ServiceSettings, variable

SOURCE = Path(__file__).parents[2]
EMBEDDED = SOURCE / "champions"
"""Where a Bento has its bundles."""
LISTING = "champions.json"
"""Task → version, in a folder that comes from a registry."""
REFUSED = "refused.json"
"""Task → a version that the registry names and its signature rules out, and the reason."""
DEFAULT_TASK = "multiclass"
"""The task of a request that names none, if it is served."""
_HASH_DIGITS = 12


class AbsentVersionError(BundleError):
    """A version is not in the store: not yet, or not any more."""


@dataclass(frozen=True)
class Refused:
    """A version that the registry names, and that is not served because of its signature."""

    version: str
    reason: str


@dataclass(frozen=True)
class Champion:
    """A version of the model of a task."""

    task: str
    version: str
    """Version in the registry; for a bundle folder, the first digits of the hash of its spec."""
    path: Path
    """Its bundle."""

    @property
    def name(self) -> str:
        """Return the name of the registered model."""
        return model_name(self.task)


def store_folder(settings: ServiceSettings) -> Path:
    """Return the folder of bundles; raises BundleError if `ensure_store` has not made one known."""
    if settings.bundles is None:
        raise BundleError(
            f"{variable('bundles')} is not set; set it to a folder of bundles, or start the whole service"
        )
    return settings.bundles


def ensure_store(settings: ServiceSettings) -> Path:
    """Return the folder of bundles, and start to follow the registry if they come from there.

    The caller puts the folder into the environment of its worker processes. Raises BundleError if the registry has no
    champion or cannot be read.
    """
    if settings.bundles is not None:
        return settings.bundles
    if _is_embedded():
        return EMBEDDED
    target = tempfile.mkdtemp(prefix=PREFIX)
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    follower.start(Path(target), settings.poll_s)
    return Path(target)


def list_champions(store: Path) -> dict[str, Champion]:
    """Return task → version to serve from the bundles in `store`, the default task first.

    Raises BundleError if there is no bundle.
    """
    if champions := read_champions(store):
        return champions
    if follows_registry(store):
        raise BundleError(f"{store}: no task has a champion in the registry any more; give one the alias 'champion'")
    raise BundleError(
        f"{variable('bundles')}={store}: no bundle folder in it; run `fatescope repro`, or name another one"
    )


def read_champions(store: Path) -> dict[str, Champion]:
    """Return the same as `list_champions`, or nothing where there is no bundle."""
    if follows_registry(store):
        versions: dict[str, str] = json.loads((store / LISTING).read_text(encoding="utf-8"))
        champions = {task: Champion(task, version, store / task / version) for task, version in versions.items()}
    else:
        folders = [path for path in store.glob("[!.]*") if path.is_dir()]
        champions = {path.name: Champion(path.name, digest(path), path) for path in folders}
    return {task: champions[task] for task in sorted(champions, key=lambda task: (task != DEFAULT_TASK, task))}


def follows_registry(store: Path) -> bool:
    """Return whether the bundles in `store` are those of a registry, whose list is complete."""
    return (store / LISTING).exists()


def read_refused(store: Path) -> dict[str, Refused]:
    """Return task → version that the registry names and its signature rules out."""
    path = store / REFUSED
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {task: Refused(**entry) for task, entry in content.items()}


def locate(store: Path, task: str, version: str) -> Path:
    """Return the bundle of a version in `store`, which may be a version replaced recently; raises BundleError."""
    champion = list_champions(store).get(task)
    if champion is None:
        raise BundleError(f"{store}: no bundle of task '{task}'")
    if champion.version == version:
        return champion.path
    path = store / task / version
    if not (path / bundle.SPEC).is_file():
        raise AbsentVersionError(f"{store}: version {version} of {model_name(task)} is not here (any more)")
    return path


def read_spec(champion: Champion) -> bundle.Spec:
    """Read the spec of a complete bundle, once its signature is verified.

    Raises BundleError, also if the bundle is of another task.
    """
    # In a folder that comes from a registry, `DIR/TASK/VERSION`; `registry_sync` has said where a signature is missing.
    registry = follows_registry(champion.path.parent.parent)
    try:
        signatures.verify(champion.path, registry=registry, warn=not registry)
        spec = bundle.open_spec(champion.path)
    except BundleError as error:
        raise BundleError(f"{champion.name} version {champion.version} is not served: {error}") from error
    check_task(champion, spec)
    return spec


def check_task(champion: Champion, spec: bundle.Spec) -> None:
    """Raise BundleError if the bundle is of another task than it is to serve: its signature does not say which."""
    if spec.task != champion.task:
        raise BundleError(f"{champion.path}: a bundle of task '{spec.task}'; name the folder after its task")


def _is_embedded() -> bool:
    # A Bento has its description beside the sources; in the project, what `make bento` downloaded is not to be served.
    return EMBEDDED.is_dir() and (SOURCE.parent / "bento.yaml").is_file()


def digest(path: Path) -> str:
    """Return the version of a bundle in a folder: the first digits of the hash of its spec; raises BundleError."""
    spec = path / bundle.SPEC
    if not spec.is_file():
        raise BundleError(f"{path}: not a bundle (no {bundle.SPEC}); train one with `dvc repro train`")
    return hashlib.sha256(spec.read_bytes()).hexdigest()[:_HASH_DIGITS]
