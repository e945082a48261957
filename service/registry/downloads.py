"""Download versions into a folder of bundles, and list them; no task waits for the download of another.

`service.registry.model_store` describes the folder. Each version is downloaded in a thread of its own, and listed once
its signature is verified. One that is refused is tried again every REFUSED_RETRY_S, since it may be signed meanwhile;
one that cannot be downloaded at the next query. The version before it stays listed.
"""

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from fatescope.atomic import replacing
from fatescope.errors import BundleError
from fatescope.model_registry import model_name
from fatescope.signing.signature import SignatureError
from service.registry import registry_queries, signatures
from service.registry.model_store import LISTING, REFUSED, Refused, follows_registry, read_champions, read_refused

REFUSED_RETRY_S = 60.0
SLOW_S = 600.0
"""Time after which a download that has not ended is reported."""
KEPT_VERSIONS = 2
"""Versions of a task that stay on disk: the previous one may still answer requests."""


class Downloads:
    """Brings a folder of bundles in step with what is wanted; `want` and `problems` belong to one thread."""

    def __init__(self, store: Path, tell: Callable[[str], None] = lambda _: None) -> None:
        """`store` is made if need be; `tell` gets what becomes of a version that is not listed, as it happens."""
        self._store, self._tell = store, tell
        before = read_champions(store) if follows_registry(store) else {}
        self._listed = {task: champion.version for task, champion in before.items()}
        self._wanted = dict[str, str]()
        self._refused, self._failed = read_refused(store), dict[str, str]()
        self._retry_at = dict[str, float]()
        """Task whose version was refused → when it is due again."""
        self._began = dict[tuple[str, str], float]()
        """Task and version that is being downloaded → since when."""
        self._written: tuple[dict[str, str], dict[str, Refused]] | None = None
        self._changing = threading.Condition()

    def want(self, versions: Mapping[str, str]) -> None:
        """Have the store get `versions`, task → version, and list no other task; what is not there comes later.

        Raises OSError where the list cannot be written.
        """
        self._store.mkdir(parents=True, exist_ok=True)
        with self._changing:
            self._wanted, self._failed = dict(versions), {}
            self._listed = {task: listed for task, listed in self._listed.items() if task in versions}
            self._refused = {
                task: refused for task, refused in self._refused.items() if versions.get(task) == refused.version
            }
            due = [task for task, version in versions.items() if self._is_due(task, version)]
            self._write()
            for task in due:
                self._began[task, versions[task]] = time.monotonic()
        for task in due:
            # Not waited for when this process ends: a store of artifacts may take its time to say that it is away.
            threading.Thread(target=self._download, args=(task, versions[task]), daemon=True).start()

    def wait(self) -> None:
        """Return once no download is in progress."""
        with self._changing:
            self._changing.wait_for(lambda: not self._began)

    def problems(self) -> list[str]:
        """Return why versions that are wanted have not come; those that were refused are in `refused`."""
        late = time.monotonic() - SLOW_S
        with self._changing:
            slow = [
                f"{_name(task, version)} has been downloaded for more than {SLOW_S / 60:.0f} min and is not here yet; "
                "look at the store of artifacts"
                for (task, version), began in self._began.items()
                if began < late and self._wanted.get(task) == version
            ]
            return [*self._failed.values(), *slow]

    @property
    def refused(self) -> dict[str, Refused]:
        """Return task → version that is wanted and that its signature rules out."""
        with self._changing:
            return dict(self._refused)

    def _is_due(self, task: str, version: str) -> bool:
        """Return whether a version is to be downloaded now, and list it if it is here."""
        if (self._store / task / version).exists():
            self._listed[task] = version
            return False
        if (task, version) in self._began:
            return False
        return task not in self._refused or time.monotonic() >= self._retry_at.get(task, 0)

    def _download(self, task: str, version: str) -> None:
        name, problem, refused = _name(task, version), "", None
        try:
            self._fetch(task, version)
        except SignatureError as error:
            refused = Refused(version, str(error).removeprefix(f"{name}: "))
            problem = describe_refusal(task, refused)
        # Stores of artifacts have errors of their own, which MLflow passes on.
        except Exception as error:  # noqa: BLE001  see above; the other tasks are followed
            problem = f"{name} cannot be downloaded: {error}"
        with self._changing:
            if problem and self._wanted.get(task) == version:
                self._note(task, problem, refused)
            del self._began[task, version]
            self._changing.notify_all()

    def _fetch(self, task: str, version: str) -> None:
        folder = self._store / task / version
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._store, prefix=".") as partial:
            downloaded = registry_queries.fetch(task, version, Path(partial))
            signatures.verify(downloaded, registry=True, warn=True, name=_name(task, version))
            with self._changing:
                if self._wanted.get(task) != version:
                    return  # another one took its place meanwhile
                downloaded.rename(folder)
                self._listed[task] = version
                self._refused.pop(task, None)
                self._write()
        _delete_outdated(folder)

    def _note(self, task: str, problem: str, refused: Refused | None) -> None:
        if refused is None:
            self._failed[task] = problem
        else:
            self._refused[task], self._retry_at[task] = refused, time.monotonic() + REFUSED_RETRY_S
            try:
                self._write()
            except OSError as error:
                self._failed[task] = f"{self._store / REFUSED} cannot be written: {error}"
        self._tell(problem)

    def _write(self) -> None:
        """Write both lists where they have changed."""
        current = dict(self._listed), dict(self._refused)
        if current == self._written:
            return
        listed, refused = current
        with replacing(self._store / REFUSED) as part:
            part.write_text(json.dumps({task: asdict(found) for task, found in refused.items()}), encoding="utf-8")
        with replacing(self._store / LISTING) as part:
            part.write_text(json.dumps(listed), encoding="utf-8")
        self._written = current


def download(downloads: Downloads, versions: Mapping[str, str]) -> dict[str, Refused]:
    """Have `versions` in the store and listed; return those that their signature rules out.

    Raises BundleError where one cannot be downloaded.
    """
    downloads.want(versions)
    downloads.wait()
    if problems := downloads.problems():
        raise BundleError("; ".join(problems))
    return downloads.refused


def describe_refusal(task: str, refused: Refused) -> str:
    """Return which version is not served, and why."""
    return f"{_name(task, refused.version)} is not served: {refused.reason}"


def _name(task: str, version: str) -> str:
    return f"{model_name(task)} version {version}"


def _delete_outdated(current: Path) -> None:
    """Delete all but the newest versions of a task of which `current` has just come."""
    newest_first = sorted(current.parent.iterdir(), key=lambda path: path.stat().st_ctime, reverse=True)
    for outdated in [path for path in newest_first if path != current][KEPT_VERSIONS - 1 :]:
        shutil.rmtree(outdated, ignore_errors=True)
