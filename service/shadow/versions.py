"""Which versions challenge: found in the store, verified, loaded by the process of the challengers, or refused."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from fatescope.errors import BundleError
from fatescope.inference.bundle import Spec
from service.registry import challengers, model_store
from service.registry.model_store import Champion
from service.shadow import metrics
from service.shadow.process import LOADING_S, Job, Reply

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

CHECK_INTERVAL_S = 5.0
"""Time between two looks at which version is the challenger."""
RETRY_S = 600.0
"""Time after which a version that was refused is tried again."""


@dataclass(frozen=True)
class Challenger:
    """A version that challenges the champion of its task."""

    champion: Champion
    """Which version it is, and where."""
    spec: Spec
    engine: str = ""
    """Name of the engine that runs it; empty until it is loaded."""


class Versions:
    """The versions that challenge; they may be asked for from any thread."""

    def __init__(self, store: Path, submit: Callable[[Job], Future[Reply]]) -> None:
        """`store` is the folder of bundles, `submit` passes a job to the process of the challengers."""
        self._store, self._submit = store, submit
        self._found: dict[str, Challenger] = {}
        self._retry_at: dict[Champion, float] = {}
        self._checked = float("-inf")
        self._reasons: dict[Champion, str] = {}

    def __bool__(self) -> bool:
        """Return whether some version challenges."""
        return bool(self._found)

    def find(self, task: str) -> Challenger | None:
        """Return the version that challenges in a task, loaded or not."""
        return self._found.get(task)

    def find_loaded(self, task: str) -> Challenger | None:
        """Return the version that challenges in a task, if it is loaded."""
        found = self._found.get(task)
        return found if found and found.engine else None

    def all(self) -> dict[str, Challenger]:
        """Return task → version that challenges, loaded or not."""
        return dict(self._found)

    def check(self) -> bool:
        """Note which versions challenge now, every CHECK_INTERVAL_S; return whether that was done."""
        if time.monotonic() - self._checked < CHECK_INTERVAL_S:
            return False
        self._checked = time.monotonic()
        try:
            present = challengers.read_challengers(self._store)
        except (BundleError, OSError, ValueError) as error:
            log.warning("the challengers cannot be read: %s", error)
            return False
        for task in self._found.keys() - present.keys():
            del self._found[task]
            metrics.publish_state(task, "absent")
        for champion in present.values():
            known = self._found.get(champion.task)
            if known is None or known.champion != champion:
                self._find(champion)
        return True

    def load_all(self) -> None:
        """Have all versions loaded, by a process that has just started."""
        for found in list(self._found.values()):
            self._prepare(found)

    def unload_all(self) -> None:
        """Note that the process has ended."""
        for task, found in list(self._found.items()):
            self._found[task] = replace(found, engine="")
            metrics.publish_state(task, "waiting")

    def refuse(self, champion: Champion, reason: str) -> None:
        """Let a version not challenge for RETRY_S, and say why."""
        self._found.pop(champion.task, None)
        self._retry_at[champion] = time.monotonic() + RETRY_S
        metrics.publish_state(champion.task, "refused")
        if self._reasons.get(champion) != reason:
            log.error("%s version %s does not challenge: %s", champion.name, champion.version, reason)
            self._reasons[champion] = reason

    def _find(self, champion: Champion) -> None:
        """Have a version that is new, or was refused a while ago, loaded."""
        if time.monotonic() < self._retry_at.get(champion, 0):
            return
        try:
            spec = model_store.read_spec(champion)
        except BundleError as error:
            self.refuse(champion, str(error))
            return
        self._found[champion.task] = Challenger(champion, spec)
        self._prepare(self._found[champion.task])

    def _prepare(self, found: Challenger) -> None:
        own = {"kind": "prepare", "task": found.champion.task, "version": found.champion.version}
        metrics.publish_state(found.champion.task, "starting")

        def note(reply: Future[Reply]) -> None:
            if reply.exception() or self._found.get(found.champion.task) != found:
                return
            header = reply.result()[0]
            if header["error"]:
                self.refuse(found.champion, header["error"])
                return
            self._found[found.champion.task] = replace(found, engine=header["engine"])
            metrics.publish_state(found.champion.task, "running")
            name, version, engine = found.champion.name, found.champion.version, header["engine"]
            log.info("%s version %s challenges, run by %s", name, version, engine)

        self._submit(Job(own, limit_s=LOADING_S)).add_done_callback(note)
