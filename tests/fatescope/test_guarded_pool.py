"""Calls that end their process, never end or want all memory cost their own results, and nobody else's."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fatescope import processes
from fatescope.guarded_pool import Fatal, GuardedPool, PoolError
from tests.support.project import ROOT

CRASH, HANG = Fatal(hung=False), Fatal(hung=True)


@pytest.fixture(scope="module")
def pool():
    pool = GuardedPool(2, [__name__], limit_s=3.0)
    yield pool
    pool.close()


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch):
    monkeypatch.setattr(processes, "TICK_S", 0.05)


def work(what):
    """Do what a name says, in a process of the pool."""
    if what == "exit":
        os._exit(0)
    if what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":
        while True:
            pass
    if what == "memory":
        return len(np.ones(1 << 31, np.uint8))
    if what == "bug":
        raise LookupError("a bug")
    return f"{what}!"


def run(pool, *names):
    return pool.run(work, [(name,) for name in names])


def test_results_come_in_the_order_of_the_calls(pool):
    assert run(pool, *"abc") == ["a!", "b!", "c!"]
    assert run(pool) == []


@pytest.mark.parametrize(
    ("what", "left"),
    [("exit", CRASH), ("segfault", CRASH), pytest.param("hang", HANG, marks=pytest.mark.slow)],
    ids=["exit", "segfault", "hang"],
)
def test_a_call_that_takes_its_process_along_costs_itself(pool, what, left):
    assert run(pool, "a", what, "b", "c") == ["a!", left, "b!", "c!"]
    assert run(pool, "d") == ["d!"]


def test_several_calls_may_end_their_processes(pool):
    assert run(pool, "exit", "a", "exit", "exit", "b", "exit") == [CRASH, "a!", CRASH, CRASH, "b!", CRASH]


def test_calls_that_hang_one_after_the_other_do_not_keep_a_process_from_others_for_long():
    pool = GuardedPool(1, [__name__], limit_s=0.1)
    try:
        assert run(pool, *["hang"] * 6) == [HANG] * 6
        with pytest.raises(PoolError, match="6 files one after the other"):
            run(pool, *["hang"] * 100)
        assert run(pool, "a") == ["a!"]
    finally:
        pool.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit the memory of no process")
def test_a_call_that_wants_more_memory_than_a_process_may_have_costs_itself(pool):
    assert run(pool, "a", "memory", "b") == ["a!", CRASH, "b!"]


def oom_score_adj():
    return Path("/proc/self/oom_score_adj").read_text(encoding="utf-8").strip()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems choose by themselves")
def test_where_memory_runs_out_a_process_of_the_pool_is_ended_before_the_one_that_asks(pool):
    assert pool.run(oom_score_adj, [()]) == ["1000"]
    assert int(oom_score_adj()) < 1000


def test_what_a_call_raises_is_raised_where_it_was_asked_for(pool):
    with pytest.raises(LookupError, match="a bug"):
        run(pool, "a", "bug")
    assert run(pool, "b") == ["b!"]


def raise_error():
    raise LookupError("a bug")


def test_a_call_that_raises_leaves_its_process():
    pool = GuardedPool(1, [__name__])
    try:
        [pid] = pool.run(os.getpid, [()])
        with pytest.raises(LookupError):
            pool.run(raise_error, [()])
        assert pool.run(os.getpid, [()]) == [pid]
    finally:
        pool.close()


def test_calls_of_others_go_on_while_one_ends_its_process(pool):
    with ThreadPoolExecutor(6) as threads:
        futures = [threads.submit(run, pool, f"{i}", "exit" if i % 2 else "fine", f"{i}") for i in range(12)]
        results = [future.result() for future in futures]
    assert results == [[f"{i}!", CRASH if i % 2 else "fine!", f"{i}!"] for i in range(12)]


@pytest.mark.slow
def test_calls_that_each_take_a_moment_may_together_take_longer_than_the_limit():
    pool = GuardedPool(1, [__name__], limit_s=3.0)
    try:
        assert pool.run(time.sleep, [(0.5,)] * 8) == [None] * 8
    finally:
        pool.close()


def end(pids, number):
    """Record the process, and be asked to end from outside at the first two calls."""
    with pids.open("a") as file:
        file.write(f"{os.getpid()}\n")
    with pids.open() as file:
        if len(file.readlines()) < 3:
            os.kill(os.getpid(), number)
            time.sleep(60)
    return "done"


def test_a_process_that_is_asked_to_end_does_not_accuse_its_call(pool, tmp_path):
    assert pool.run(end, [(tmp_path / "pids", signal.SIGTERM)]) == ["done"]


def end_with_server(marker):
    """At the first call, be asked to end after the server that has forked this process, as a whole service is."""
    if not marker.exists():
        marker.touch()
        server = os.getppid()
        os.kill(server, signal.SIGKILL)
        while os.getppid() == server:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    return "done"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no server that forks")
def test_calls_are_not_accused_where_all_processes_are_asked_to_end(tmp_path):
    pool = GuardedPool(1, [__name__])
    try:
        assert pool.run(end_with_server, [(tmp_path / "marker",)]) == ["done"]
    finally:
        pool.close()


@pytest.mark.parametrize("error", [EOFError(), BlockingIOError(11, "Resource temporarily unavailable")])
def test_a_process_that_cannot_be_forked_is_an_error_of_its_own(monkeypatch, error):
    def fail(_):
        raise error

    pool = GuardedPool(1, [__name__])
    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", fail)
    with pytest.raises(PoolError, match="no process that decodes files can be started"):
        run(pool, "a")
    monkeypatch.undo()
    assert run(pool, "a") == ["a!"]
    pool.close()


@pytest.mark.parametrize(
    "failing", ["multiprocessing.context.ForkServerProcess.start", "fatescope.guarded_pool._serve"]
)
def test_a_pool_that_cannot_start_processes_says_so_until_it_can(monkeypatch, failing):
    def fail(_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    pool = GuardedPool(1, [__name__])
    monkeypatch.setattr(failing, _end_at_once if failing.endswith("_serve") else fail)
    assert pool.failure is None
    pool.check()
    assert "processes that decode" in pool.failure.replace("process that decodes", "processes that decode")
    monkeypatch.undo()
    pool.check()
    assert pool.failure is None
    pool.close()


def test_a_pool_at_work_is_not_asked_whether_it_could_start_processes():
    pool = GuardedPool(1, [__name__])
    pool.failure = "as it was"
    with pool._free:
        pool.check()
    assert pool.failure == "as it was"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit the memory of no process")
def test_a_process_may_take_the_memory_that_the_pool_gives_it():
    pool = GuardedPool(1, [__name__], memory_bytes=64 << 20)
    try:
        assert pool.run(allocate, [(32 << 20,), (128 << 20,)]) == [32 << 20, CRASH]
    finally:
        pool.close()


def allocate(size):
    return len(np.ones(size, np.uint8))


HANGING = """
import ctypes, os, sys
from tests.fatescope.test_guarded_pool import hang_in_c
from fatescope.guarded_pool import GuardedPool
GuardedPool(1, ["tests.fatescope.test_guarded_pool"], limit_s=600).run(hang_in_c, [(sys.argv[1],)])
"""


def hang_in_c(path):
    """Write the number of this process, and hang in C, with the interpreter held."""
    part = Path(f"{path}.part")
    part.write_text(str(os.getpid()), encoding="utf-8")
    part.rename(path)
    ctypes.PyDLL(None).sleep(120)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems end what hangs in Python alone")
def test_a_call_that_hangs_ends_with_a_caller_that_is_killed(tmp_path):
    marker = tmp_path / "pid"
    caller = subprocess.Popen([sys.executable, "-c", HANGING, str(marker)], cwd=ROOT)
    try:
        assert wait_until(marker.exists)
        pid = int(marker.read_text(encoding="utf-8"))
    finally:
        caller.kill()
        caller.wait()
    try:
        assert wait_until(lambda: not is_running(pid)), "the process lives on"
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


def wait_until(condition, timeout_s=60):
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def is_running(pid):
    """Return whether a process is neither gone nor waits for somebody to note its end."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_process_that_has_ended_while_it_had_nothing_to_do_is_replaced():
    pool = GuardedPool(1, [__name__])
    try:
        [pid] = pool.run(os.getpid, [()])
        os.kill(pid, signal.SIGKILL)
        assert run(pool, "a") == ["a!"]
        assert pool.run(os.getpid, [()]) != [pid]
    finally:
        pool.close()


def test_processes_that_cannot_start_are_an_error(monkeypatch):
    pool = GuardedPool(1, [__name__])
    monkeypatch.setattr("fatescope.guarded_pool._serve", _end_at_once)
    with pytest.raises(OSError, match="end as soon as they have started"):
        run(pool, "a")


def _end_at_once(*_):
    os._exit(3)


def test_processes_end_with_the_pool():
    pool = GuardedPool(1, [__name__])
    [pid] = pool.run(os.getpid, [()])
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
