"""Waiting for work in other processes: what ends in time, what hangs, and what a machine that slept has missed."""

import sys
from concurrent.futures import Future

import numpy as np
import pytest

from fatescope import processes
from fatescope.processes import HungError


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch):
    monkeypatch.setattr(processes, "TICK_S", 0.01)


def test_a_result_that_is_there_is_returned_without_a_look_at_its_limit():
    future = Future()
    future.set_result(7)
    assert processes.result(future, [], lambda: pytest.fail("its limit was asked for")) == 7


def test_work_that_does_not_end_is_given_up():
    with pytest.raises(HungError):
        processes.result(Future(), [Future()], lambda: 0.05)


def test_a_time_out_that_the_work_itself_raises_is_its_own():
    future = Future()
    future.set_exception(TimeoutError("the disk"))
    with pytest.raises(TimeoutError, match="the disk"):
        processes.result(future, [], lambda: 60)


class Slow(Future):
    """Work that ends at the `ticks`-th look; each takes what a machine that sleeps takes, and others end meanwhile."""

    def __init__(self, ticks, others=()):
        super().__init__()
        self.ticks, self.others = ticks, list(others)

    def result(self, timeout=None):
        self.ticks -= 1
        if self.ticks == 0:
            self.set_result("read")
        elif self.others:
            self.others.pop().set_result(None)
        return super().result(0 if timeout is None else min(timeout, 0))


def test_each_look_counts_once_however_long_it_took(monkeypatch):
    monkeypatch.setattr(processes, "TICK_S", 1.0)
    assert processes.result(Slow(5), [], lambda: 5) == "read"
    with pytest.raises(HungError):
        processes.result(Slow(6), [], lambda: 5)


def test_the_time_counts_from_the_last_work_that_has_ended(monkeypatch):
    monkeypatch.setattr(processes, "TICK_S", 1.0)
    others = [Future() for _ in range(3)]
    assert processes.result(Slow(7, others), others, lambda: 5) == "read"


@pytest.mark.parametrize(
    ("memory_gb", "count", "expected_mb"), [(64, 4, 1000), (8, 8, 400), (2, 4, 256), (0.5, 8, 256)]
)
def test_a_share_of_the_memory_is_divided_between_a_least_and_a_most(monkeypatch, memory_gb, count, expected_mb):
    monkeypatch.setattr(processes, "memory_bytes", lambda: memory_gb * 10**9)
    least, most = 256 * 10**6, 10**9
    assert processes.share_bytes(count, 0.4, least=least, most=most) == expected_mb * 10**6


def take(share):
    return len(np.empty(int(share * processes.memory_bytes()), np.uint8)) > 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit the memory of no process")
def test_a_process_may_take_its_share_of_the_memory_and_no_more():
    pool = processes.start(2, [])
    try:
        assert pool.submit(take, 0.3).result()
        with pytest.raises(MemoryError):
            pool.submit(take, 0.6).result()
    finally:
        processes.kill(pool)
