"""Background workers: what goes on beside the requests, and must not end before the service does.

| worker | where | what it does |
|---|---|---|
| `recording` | thread of a gateway | writes the prediction log (`service.inference.prediction_log`) |
| `expiry` | thread of a gateway | deletes files of the prediction log after the retention time |
| `champions` | task of a gateway | serves new champions, keeps the runner awake (`service.inference.model_pool`) |
| `decoders` | task of a gateway | tries to start processes that decode (`service.inference.page_decoder`) |
| `registry` | process of the service | follows the registry (`service.registry.follower`) |

Challengers run in processes that have a supervision and a state of their own (`service.shadow.process`).

Whatever one of them raises, it is started again after a while, which grows as long as it fails. The first failure is
logged, and another reason; not each time. Each has the time of its last success and a count of failures, which are
published as metrics.
"""

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fatescope.backoff import LONGEST_S, Backoff
from fatescope.errors import FatescopeError

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

_ADDRESS = re.compile(r"0x[0-9a-f]+")
"""Where an object is in memory, which messages about failed connections repeat."""


@dataclass
class Worker:
    """What is known of a background worker; the thread or task that runs it says how it fares."""

    name: str
    interval_s: float
    """Seconds within which it succeeds when all is well, if only in seeing that there is nothing to do."""
    publish: Callable[["Worker", int], None]
    """Called at the start and after each success and failure, with the number of failures since the last time."""
    longest_wait_s: float = LONGEST_S
    last_success: float = field(init=False)
    """Seconds since the epoch; the start counts as one."""
    failures: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.last_success = time.time()
        self._backoff, self._reason = Backoff(self.longest_wait_s), ""
        self._publish(0)

    def succeed(self) -> None:
        """Note a success."""
        self.last_success = time.time()
        self._backoff.reset()
        if self._reason:
            log.info("%s works again", self.name)
            self._reason = ""
        self._publish(0)

    def fail(self, error: Exception) -> float:
        """Note a failure, and log its reason unless that was the last one too; return the seconds to wait."""
        self.failures += 1
        expected = isinstance(error, FatescopeError | OSError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        if (known := _ADDRESS.sub("", reason)) != self._reason:
            log.error("%s failed, and is tried again: %s", self.name, reason, exc_info=None if expected else error)
            self._reason = known
        self._publish(1)
        return self._backoff.wait_s()

    def _publish(self, failures: int) -> None:
        # The work must not end because a disk for metrics is full.
        with contextlib.suppress(Exception):
            self.publish(self, failures)


def start_thread(worker: Worker, work: Callable[[], None], closed: threading.Event) -> threading.Thread:
    """Run `work` in a thread, and again whenever it raises; it returns once `closed` is set.

    After that it has one more try, for what is left to do.
    """

    def supervise() -> None:
        while True:
            last = closed.is_set()
            try:
                work()
            except Exception as error:  # noqa: BLE001  whatever it is, the work must go on
                wait_s = worker.fail(error)
            else:
                return
            if last:
                return
            closed.wait(wait_s)

    thread = threading.Thread(target=supervise, name=worker.name, daemon=True)
    thread.start()
    return thread


async def repeat(worker: Worker, work: Callable[[], Awaitable[None]]) -> None:
    """Await `work` every `interval_s` until cancelled, whatever it raises."""
    own = asyncio.current_task()
    wait_s = worker.interval_s
    while True:
        await asyncio.sleep(wait_s)
        wait_s = worker.interval_s
        try:
            await work()
        except asyncio.CancelledError as error:
            if own is None or own.cancelling():
                raise
            # A library cancelled something of its own and let it show.
            wait_s = worker.fail(RuntimeError(f"cancelled from inside: {error}"))
        except Exception as error:  # noqa: BLE001  as above
            wait_s = worker.fail(error)
        else:
            worker.succeed()
