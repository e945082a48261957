"""A pool of processes for calls that may crash, hang or take all memory: such a call costs its own result.

Other than in a `ProcessPoolExecutor`, which breaks as a whole, a process has the calls of one caller at a time, so that
nobody else's are to blame for its end.
"""

import gc
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ctypes import c_longlong
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from fatescope import processes

T = TypeVar("T")

LIMIT_S = 10.0
"""After which a call that has not come to an end is given up; those made here take milliseconds."""
START_S = 60.0
"""In which a process starts, at the latest."""
_END_S = 10.0
"""In which the end of a process is seen, at the latest."""
_IDLE = -1
"""In place of the number of a call where none was begun."""
_UNKNOWN_EXIT = 255
"""What `multiprocessing` says of a process whose end was not seen, because the server that forked it ended before."""
_GC_THRESHOLDS = (50_000, 20, 100)
"""How often a process searches for reference cycles."""
_MAX_STARTS = 3
"""Processes that end one after the other without having begun a call; more cannot be started at all."""


_MAX_HUNG = 6
"""Calls that may hang one after the other: whoever asked for them waits no longer, and others wait for the process."""


@dataclass(frozen=True)
class Fatal:
    """What stands in place of the result of a call that did not come back from its process."""

    hung: bool
    """It did not come to an end; otherwise it ended the process, or wanted more memory than that may have."""


@dataclass(frozen=True)
class _Raised:
    """An exception of a call, which is raised where the call was asked for."""

    error: Exception


class PoolError(OSError):
    """No process can be started, for want of memory for example, or too many calls hang; others may succeed later."""


class _EndedError(Exception):
    """A process has ended, or was killed because it hung."""

    def __init__(self, call: int, *, hung: bool = False) -> None:
        super().__init__()
        self.call, self.hung = call, hung


class GuardedPool:
    """Processes that are started when they are needed and, where a call has ended one, started again."""

    def __init__(
        self,
        size: int,
        modules: Sequence[str],
        *,
        limit_s: float = LIMIT_S,
        memory_bytes: int = processes.LEAST_BYTES,
    ) -> None:
        """`size` is how many there are at most; they import `modules` once, and may each take `memory_bytes` more."""
        self._modules, self._limit_s, self._memory_bytes = list(modules), limit_s, memory_bytes
        self.failure: str | None = None
        """Why no process could be started the last time that one was needed; None where one could."""
        self._free = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[_Process] = []

    def run(self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> list[T | Fatal]:
        """Return the result of `function` for the arguments of each call, from one process, after which others wait.

        `function` is of the top level of a module, and arguments and results can be pickled. Raises what a call raises,
        but for a MemoryError, and PoolError where no process can be started, or too many calls hang. May be called by
        several threads.
        """
        results: dict[int, T | Fatal] = {}
        left, starts, hung = list(range(len(calls))), 0, 0
        while left:
            try:
                with self._process() as process:
                    done = process.run(function, [calls[call] for call in left], self._limit_s)
            except _EndedError as error:
                if error.call == _IDLE:
                    starts += 1
                    if starts >= _MAX_STARTS:
                        self.failure = "the processes that decode files end as soon as they have started"
                        raise PoolError(self.failure) from error
                    continue
                # The results of those before it are lost with the process. They are made again.
                results[left.pop(error.call)] = Fatal(error.hung)
                hung += error.hung
                if left and hung >= _MAX_HUNG:
                    raise PoolError(f"{hung} files one after the other did not come to an end") from error
                continue
            self.failure = None
            for call, result in zip(left, done, strict=True):
                if isinstance(result, _Raised):
                    raise result.error
                results[call] = result
            left = []
        return [results[call] for call in range(len(calls))]

    @contextmanager
    def _process(self) -> "Iterator[_Process]":
        """Yield a process that nobody else has; one that has ended is not kept."""
        with self._free:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            process = process or self._new_process()
            try:
                yield process
            except BaseException:
                process.kill()
                raise
            with self._lock:
                self._idle.append(process)

    def _new_process(self) -> "_Process":
        try:
            return _Process(self._modules, self._memory_bytes)
        # The second is of the server that would have forked it, and ended because it could not.
        except (OSError, EOFError) as error:
            reason = str(error) or type(error).__name__
            self.failure = f"no process that decodes files can be started ({reason})"
            raise PoolError(self.failure) from error

    def start(self) -> None:
        """Start a process, so that the first call does not wait for it; raises PoolError where that cannot be."""
        self.run(_nothing, [()])

    def check(self) -> None:
        """Find out whether processes can be started, and set `failure`; those that are at work show it by themselves.

        Without that, what was unusable once would be so until somebody uses it.
        """
        if not self._free.acquire(blocking=False):
            return
        self._free.release()
        with suppress(PoolError):
            self.start()

    def close(self) -> None:
        """End the processes that have nothing to do."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.kill()


class _Process:
    """A process that makes calls."""

    def __init__(self, modules: Sequence[str], memory_bytes: int) -> None:
        context = processes.context(modules)
        self._at = context.RawValue(c_longlong, _IDLE)
        """The number of the call that it is at."""
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._at, memory_bytes), daemon=True)
        self._process.start()
        theirs.close()

    def run(
        self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]], limit_s: float
    ) -> list[T | Fatal | _Raised]:
        """Return the results of all calls; raises _EndedError where one of them ends the process, or hangs."""
        self._at.value = _IDLE
        try:
            self._connection.send_bytes(pickle.dumps((function, calls), pickle.HIGHEST_PROTOCOL))
            self._wait(limit_s)
            answer = self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            # Its connection is closed before its end can be seen, which takes longer on a busy machine.
            self._process.join(_END_S)
            # Whoever asks processes to end has not asked because of a call, and may have asked all of them.
            asked = self._process.exitcode in {-signal.SIGTERM, _UNKNOWN_EXIT}
            raise _EndedError(_IDLE if asked else min(self._at.value, len(calls) - 1)) from error
        results: list[T | Fatal | _Raised] = pickle.loads(answer)  # noqa: S301  our own
        return results

    def _wait(self, limit_s: float) -> None:
        """Wait for the results; raises _EndedError where one call lasts for `limit_s`, or none begins."""
        waited, at = 0.0, _IDLE
        while not self._connection.poll(processes.TICK_S):
            # A tick counts once, also where the machine slept during it.
            before, at = at, self._at.value
            waited = waited + processes.TICK_S if at == before else processes.TICK_S
            if waited > processes.TICK_S and waited >= (START_S if at == _IDLE else limit_s):
                raise _EndedError(at, hung=at != _IDLE)

    def kill(self) -> None:
        """End the process at once, with whatever it does."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()


def _serve(connection: Connection, at: Any, memory_bytes: int) -> None:  # noqa: ANN401  ctypes has no type for it
    """Make the calls that come through the connection until it is closed."""
    # Of a terminal, which is for the process that started this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    processes.end_with_parent()
    processes.limit_bytes(memory_bytes)
    processes.end_first()
    # What was imported is permanent, and calls leave hardly any reference cycles.
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    while True:
        try:
            function, calls = pickle.loads(connection.recv_bytes())  # noqa: S301  from the process that started it
        except EOFError:
            return
        results = []
        for number, call in enumerate(calls):
            at.value = number
            results.append(_call(function, call))
        connection.send_bytes(pickle.dumps(results, pickle.HIGHEST_PROTOCOL))


def _call(function: Callable[..., T], call: tuple[Any, ...]) -> T | Fatal | _Raised:
    try:
        return function(*call)
    except MemoryError:
        return Fatal(hung=False)
    except Exception as error:  # noqa: BLE001  raised again where it was asked for
        return _Raised(error)


def _nothing() -> None:
    pass
