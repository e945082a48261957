"""The process of the challengers, as a gateway sees it: started, given work, watched, and started again.

A thread of the gateway starts it and sends it work; another reads its replies, and ends it where one takes too long.
Whatever becomes of it, the gateway goes on: work in progress fails with ChallengerGoneError, and nothing waits for it.
"""

import logging
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from socket import socketpair
from typing import Any

from fatescope.backoff import LONGEST_S, Backoff
from fatescope.errors import FatescopeError
from service.inference import metrics_files
from service.shadow import frames, metrics
from service.shadow.frames import Array

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

HANG_S = 60.0
"""Time for a reply after which the process is taken to hang; at low priority, a busy machine may let it wait."""
LOADING_S = 600.0
"""The same for loading a version, and for the start of the process."""
STEADY_S = 60.0
"""A process that has lived for so long begins the back-off anew when it ends."""
_POLL_S = 0.25
"""How often it is looked for cells to compare: requests wake nobody, and each change of threads may make one wait."""
_WATCH_S = 0.5
_IDLE_S = 1.0
CLOSE_S = 3.0
"""Time that the process has to write what it has when it is to end."""
Reply = tuple[dict[str, Any], list[Array]]


class ChallengerGoneError(FatescopeError):
    """The process of the challengers ended, or does not run."""


@dataclass(eq=False)
class Job:
    """Work for the process."""

    header: dict[str, Any]
    arrays: Sequence[Array] = ()
    limit_s: float = HANG_S
    reply: "Future[Reply]" = field(default_factory=Future)


class ChallengerProcess:
    """Runs `command` in a process and passes jobs to it; may be called from any thread."""

    def __init__(  # noqa: PLR0913  each is a part of its life
        self,
        command: Callable[[int], list[str]],
        *,
        is_wanted: Callable[[], bool],
        on_start: Callable[[], None],
        next_job: Callable[[], Job | None],
        on_event: Callable[[dict[str, Any]], None],
        on_end: Callable[[str, Job | None], None],
        environment: dict[str, str] | None = None,
        longest_wait_s: float = LONGEST_S,
    ) -> None:
        """`command` gets the number of the file descriptor of its end of the connection.

        It runs while `is_wanted`. `on_start` is called once it does, `next_job` when it has nothing else to do,
        `on_event` with what it sends unasked, and `on_end` when it has ended by itself or hung, with the reason and the
        job that it was at; all in threads of this object.
        """
        self._command, self._environment = command, {**os.environ, **(environment or {})}
        self._is_wanted, self._on_start, self._next_job = is_wanted, on_start, next_job
        self._on_event, self._on_end = on_event, on_end
        self._longest_wait_s = longest_wait_s
        self._urgent: queue.Queue[Job] = queue.Queue()
        self._outstanding: dict[int, tuple[Job, float]] = {}
        self._submitted = set[Job]()
        self._changing, self._number = threading.Lock(), 0
        self._closed, self._running = threading.Event(), False
        self._process: subprocess.Popen[bytes] | None = None
        self._reason: str | None = None
        self._ready_by = float("inf")
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the process, and again whenever it ends, until `close`."""
        self._thread = threading.Thread(target=self._supervise, name="challengers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the process, which has CLOSE_S to write what it has."""
        self._closed.set()
        if self._thread:
            self._thread.join(2 * CLOSE_S)
            # It does not take what it is sent.
            self._kill("closed")
            # Nor for ever where it looks for challengers on a disk that does not answer.
            self._thread.join(CLOSE_S)

    def submit(self, job: Job) -> "Future[Reply]":
        """Pass a job on before all others, and return the future of its reply; it raises ChallengerGoneError."""
        self._submitted.add(job)
        job.reply.add_done_callback(lambda _: self._submitted.discard(job))
        if self._running:
            self._urgent.put(job)
        if not self._running:
            _fail(job, "the process of the challenger does not run")
        return job.reply

    @property
    def idle(self) -> bool:
        """Return whether every submitted job has ended."""
        return not self._submitted

    def _supervise(self) -> None:
        backoff = Backoff(self._longest_wait_s)
        while not self._closed.is_set():
            began = time.monotonic()
            try:
                if not self._is_wanted():
                    self._closed.wait(_IDLE_S)
                    continue
                self._run()
            except Exception as error:  # noqa: BLE001  whatever it is, the gateway goes on
                self._reason = self._reason or f"failed ({type(error).__name__}: {error})"
            if self._end():
                backoff.reset()
                continue
            if time.monotonic() - began > STEADY_S:
                backoff.reset()
            self._closed.wait(backoff.wait_s())

    def _run(self) -> None:
        """Start the process, and send it jobs until it ends."""
        ours, theirs = socketpair()
        with Connection(ours.detach()) as connection:
            with theirs:
                # In a group of its own, so that a signal for the service does not end it before, to be started again;
                # not in a session of its own, which Linux may give as much of the processor as it gives the gateway.
                self._process = subprocess.Popen(  # noqa: S603  our own
                    self._command(theirs.fileno()), stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                    env=self._environment, process_group=0,
                )  # fmt: skip
            if self._closed.is_set():
                return
            self._ready_by = time.monotonic() + LOADING_S
            reader = threading.Thread(target=self._read, args=(connection,), name="challengers-replies", daemon=True)
            reader.start()
            try:
                while reader.is_alive():
                    if self._closed.is_set() or not self._is_wanted():
                        self._stop()
                    elif job := self._take():
                        self._send(connection, job)
            finally:
                self._kill(None)
                reader.join()

    def _take(self) -> Job | None:
        """Return the next job, None if there is none for now: urgent ones first, others one at a time."""
        with suppress(queue.Empty):
            return self._urgent.get(timeout=_POLL_S)
        return self._next_job() if self._running and not self._outstanding else None

    def _send(self, connection: Connection, job: Job) -> None:
        with self._changing:
            self._number += 1
            number = self._number
            self._outstanding[number] = job, time.monotonic() + job.limit_s
        frames.send(connection, {**job.header, "id": number}, job.arrays)

    def _read(self, connection: Connection) -> None:
        """Pass on replies until the process ends, or hangs and is ended."""
        while True:
            try:
                if not connection.poll(_WATCH_S):
                    if self._is_late():
                        self._kill("hung")
                        return
                    continue
                header, arrays = frames.receive(connection)
            except (EOFError, OSError):
                return
            if header["kind"] == "ready":
                self._running = True
                self._on_start()
            elif "id" in header:
                with self._changing:
                    job, _ = self._outstanding.pop(header["id"])
                with suppress(InvalidStateError):  # cancelled by its request
                    job.reply.set_result((header, arrays))
            else:
                self._on_event(header)

    def _is_late(self) -> bool:
        now = time.monotonic()
        if not self._running and now > self._ready_by:
            return True
        with self._changing:
            return any(deadline < now for _, deadline in self._outstanding.values())

    def _stop(self) -> None:
        """End the process in order, or at once where it does not come to an end."""
        self._reason = "stopped"
        assert self._process is not None
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)
        self._kill(None)

    def _kill(self, reason: str | None) -> None:
        self._reason = self._reason or reason
        # Another thread may be done with it.
        if process := self._process:
            process.kill()

    def _end(self) -> bool:
        """Fail what was in progress, and say why the process ended; return whether it was to end."""
        self._running = False
        code = self._process.wait() if self._process else None
        reason, self._reason, self._process = self._reason or "crashed", None, None
        with self._changing:
            left = [job for job, _ in self._outstanding.values()]
            self._outstanding.clear()
        # It does one after the other.
        guilty = left[0] if left else None
        with suppress(queue.Empty):
            while True:
                left.append(self._urgent.get_nowait())
        for job in left:
            _fail(job, f"the process of the challenger {reason}")
        if reason in {"stopped", "closed"}:
            return True
        metrics.RESTARTS.labels("hung" if reason == "hung" else "crashed").inc()
        log.error("the process of the challengers %s (exit status %s), and is started again", reason, code)
        metrics_files.tidy()
        self._on_end(reason, guilty)
        return False


def _fail(job: Job, reason: str) -> None:
    with suppress(InvalidStateError):
        job.reply.set_exception(ChallengerGoneError(reason))
