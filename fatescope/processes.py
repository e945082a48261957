"""Processes for work that may crash, hang or take all memory, such as the decoding of files that come from anywhere."""

import fcntl
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

TICK_S = 1.0
"""How often it is looked whether a result is there. A tick counts once, also where the machine slept during it."""
_SHARE = 0.8
"""Of the memory that all processes may take together."""
LEAST_BYTES = 1 << 30
"""Of memory that each process may take in any case."""
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class HungError(Exception):
    """Work took longer than its time limit, while no other work that was in progress came to an end."""


def start(workers: int, modules: Iterable[str]) -> ProcessPoolExecutor:
    """Start a pool of processes that import `modules` once, and of which none may take more than its share of memory.

    They are not forked from this one, which may have threads (PyTorch's, for example), and a fork of those can
    deadlock, but where the platform has one from a server that has imported the modules, so that another one takes
    milliseconds.
    """
    return ProcessPoolExecutor(workers, mp_context=context(modules), initializer=_prepare, initargs=(workers,))


def _prepare(workers: int) -> None:
    end_with_parent()
    limit_memory(workers)


def context(modules: Iterable[str]) -> Any:  # noqa: ANN401  the types of multiprocessing have none for both
    """Return what starts processes as `start` says."""
    if "forkserver" in get_all_start_methods():
        forkserver = get_context("forkserver")
        forkserver.set_forkserver_preload(list(modules))
        return forkserver
    return get_context("spawn")


def result(
    future: "Future[T]",
    others: Iterable["Future[Any]"],
    limit_s: Callable[[], float],
    progress: Callable[[], int] = lambda: 0,
) -> T:
    """Return the result of a `future` of a pool, of which it is the oldest work in progress; `others` are the rest.

    Raises HungError where for `limit_s()` seconds none of all these comes to an end, nor `progress()` changes; and what
    the work raises.
    """
    others, waited, reached = list(others), 0.0, (-1, 0)
    while True:
        try:
            return future.result(TICK_S)
        except TimeoutError:
            if future.done():
                raise
        before, reached = reached, (sum(other.done() for other in others), progress())
        waited = waited + TICK_S if reached == before else TICK_S
        if waited > TICK_S and waited >= limit_s():
            raise HungError


def kill(pool: ProcessPoolExecutor) -> None:
    """End a pool at once, with whatever its processes do."""
    # Python 3.14 has `kill_workers` for it.
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.kill()
    pool.shutdown(cancel_futures=True)


def limit_memory(processes: int) -> None:
    """Let this process take no more memory than one of so many may; beyond, an allocation fails. Linux only."""
    if sys.platform == "linux":
        limit_bytes(max(LEAST_BYTES, int(_SHARE * memory_bytes()) // processes))


def share_bytes(processes: int, share: float, *, least: int, most: int) -> int:
    """Return the memory that each of so many processes may take, of a `share` of all, between `least` and `most`."""
    return max(least, min(most, int(share * memory_bytes()) // max(processes, 1)))


def limit_bytes(more: int) -> None:
    """Let this process take so many bytes of memory `more` than now; beyond, an allocation fails. Linux only."""
    if sys.platform != "linux":
        return
    import resource  # noqa: PLC0415  absent elsewhere

    # Not RLIMIT_AS: libraries reserve address space that they never use.
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _data_bytes() + more
    bounds = [bound for bound in (limit, soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))


def end_with_parent() -> None:
    """End this process, of `context`, once the one that asked for it has ended, however that was and whatever it does.

    Otherwise a call that hangs would go on for ever after its caller was killed.
    """
    parent = parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        # The sentinel is a pipe that the caller holds open. When it closes, the system ends this process: code in C
        # that hangs may hold the interpreter, so that no thread could. PR_SET_PDEATHSIG would not do: the parent is
        # the server that has forked this process, which stays for as long as this process does.
        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(parent.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, fcntl.fcntl(parent.sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    else:
        threading.Thread(target=_end_after, args=(parent,), name="parent", daemon=True).start()
    # It may have ended before.
    if not parent.is_alive():
        os._exit(1)


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def end_first() -> None:
    """Have the system end this process before others where memory runs out, with what it does. Linux only."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")


def _data_bytes() -> int:
    """Return what RLIMIT_DATA counts of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:")), 0)


def memory_bytes() -> int:
    """Return the memory of this machine or, if that is less, of its container."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in map(Path, _CGROUP_LIMITS):
        with suppress(OSError):
            if (limit := path.read_text(encoding="utf-8").strip()).isdecimal():
                memory = min(memory, int(limit))
    return memory
