"""Which versions challenge: found in the store, verified, loaded by the process of the challengers, or refused."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from fatescope.errors import BundleError
from fatescope.inference.bundle import Spec
from service.registry import challengers, model_store
from service.registry.model_store import Champion
from service.shadow import metrics
from service.shadow.metrics import State
from service.shadow.process import LOADING_S, Job, Reply

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

CHECK_INTERVAL_S = 5.0
"""Time between two looks at which version is the challenger."""
RETRY_S = 600.0
"""Time after which a version that was refused is tried again."""
LOADING_WAITS_S = (10.0, 60.0, 300.0)
"""How long a version waits after each end of the process while it was loaded; after the next one it is given up."""


@dataclass(frozen=True)
class Challenger:
    """A version that challenges the champion of its task."""

    champion: Champion
    """Which version it is, and where."""
    spec: Spec
    engine: str = ""
    """Name of the engine that runs it; empty until it is loaded."""


@dataclass(frozen=True)
class Standing:
    """How a version fares that has the alias challenger."""

    version: str
    state: State
    reason: str | None = None
    """Why it does not challenge."""


class Versions:
    """The versions that challenge; they may be asked for from any thread."""

    def __init__(self, store: Path, submit: Callable[[Job], Future[Reply]]) -> None:
        """`store` is the folder of bundles, `submit` passes a job to the process of the challengers."""
        self._store, self._submit = store, submit
        self._found: dict[str, Challenger] = {}
        self._retry_at: dict[Champion, float] = {}
        self._checked = float("-inf")
        self._reasons: dict[Champion, str] = {}
        self._ends: Counter[Champion] = Counter()
        """How often the process ended while it loaded a version, since that last succeeded."""
        self._standings: dict[str, Standing] = {}

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

    def standings(self) -> dict[str, Standing]:
        """Return task → how the version fares that has the alias, whether it challenges or not."""
        return dict(self._standings)

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
        for task in self._standings.keys() - present.keys():
            self._let_go(task)
            del self._standings[task]
            metrics.publish_state(task, "absent")
        for known in (self._retry_at, self._reasons, self._ends):
            # Whoever gives the alias again, wants it tried again.
            for champion in known.keys() - set(present.values()):
                del known[champion]
        for champion in present.values():
            found = self._found.get(champion.task)
            if found is None or found.champion != champion:
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
            self._publish(found.champion, "waiting", "the process of the challengers has ended, and is started again")

    def delay(self, task: str, version: str, reason: str) -> None:
        """Let a version wait during whose loading the process ended; after a few times, until it has the alias anew."""
        found = self._found.get(task)
        if found is None or found.champion.version != version:
            return
        self._ends[found.champion] += 1
        ends = self._ends[found.champion]
        if ends > len(LOADING_WAITS_S):
            why = f"its process {reason} {ends} times while it was loaded; it is tried again once it has the alias anew"
            self._stop(found.champion, "given_up", why, math.inf)
        else:
            wait_s = LOADING_WAITS_S[ends - 1]
            why = f"its process {reason} while it was loaded; it is tried again after {wait_s:.0f} s"
            self._stop(found.champion, "waiting", why, wait_s)

    def refuse(self, champion: Champion, reason: str) -> None:
        """Let a version not challenge for RETRY_S, and say why."""
        self._stop(champion, "refused", reason, RETRY_S)

    def _stop(self, champion: Champion, state: State, reason: str, wait_s: float) -> None:
        self._let_go(champion.task)
        self._retry_at[champion] = time.monotonic() + wait_s
        self._publish(champion, state, reason)
        if self._reasons.get(champion) != reason:
            log.error("%s version %s does not challenge: %s", champion.name, champion.version, reason)
            self._reasons[champion] = reason

    def _let_go(self, task: str) -> None:
        """Have the process done with the version that challenges in a task, if it has loaded one."""
        found = self._found.pop(task, None)
        if found and found.engine:
            self._submit(Job({"kind": "forget", "task": task, "version": found.champion.version}))

    def _publish(self, champion: Champion, state: State, reason: str | None = None) -> None:
        self._standings[champion.task] = Standing(champion.version, state, reason)
        metrics.publish_state(champion.task, state)

    def _find(self, champion: Champion) -> None:
        """Have a version that is new, or was refused a while ago, loaded."""
        if time.monotonic() < self._retry_at.get(champion, 0):
            return
        try:
            spec = model_store.read_spec(champion)
        except BundleError as error:
            self.refuse(champion, str(error))
            return
        self._let_go(champion.task)
        self._found[champion.task] = Challenger(champion, spec)
        self._prepare(self._found[champion.task])

    def _prepare(self, found: Challenger) -> None:
        own = {"kind": "prepare", "task": found.champion.task, "version": found.champion.version}
        self._publish(found.champion, "starting")

        def note(reply: Future[Reply]) -> None:
            if reply.exception() or self._found.get(found.champion.task) != found:
                return
            header = reply.result()[0]
            if header["error"]:
                self.refuse(found.champion, header["error"])
                return
            self._found[found.champion.task] = replace(found, engine=header["engine"])
            self._ends.pop(found.champion, None)
            self._publish(found.champion, "running")
            name, version, engine = found.champion.name, found.champion.version, header["engine"]
            log.info("%s version %s challenges, run by %s", name, version, engine)

        self._submit(Job(own, limit_s=LOADING_S)).add_done_callback(note)
