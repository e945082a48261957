import asyncio
import threading
import time

import pytest

from fatescope.backoff import Backoff
from service import background
from service.background import Worker


class Published(list):
    """What a worker published: its last success and its failures, which add up."""

    def __call__(self, worker, failures):
        self.append((worker.last_success, failures))


@pytest.fixture
def published():
    return Published()


def worker(published, longest_wait_s=0.0):
    return Worker("recording", 0.0, published, longest_wait_s)


def test_a_thread_is_started_again_whatever_it_raises_and_ends_when_it_is_closed(published):
    closed, tries = threading.Event(), []

    def work():
        tries.append(1)
        if len(tries) < 4:
            raise [FileNotFoundError("gone"), KeyError("task"), MemoryError()][len(tries) - 1]
        closed.wait()

    thread = background.start_thread(worker(published), work, closed)
    end = time.monotonic() + 30
    while len(tries) < 4:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert thread.is_alive()
    closed.set()
    thread.join(30)
    assert not thread.is_alive()
    assert sum(failures for _, failures in published) == 3


def test_a_thread_that_fails_while_it_is_closed_has_one_more_try(published):
    closed, tries = threading.Event(), []

    def work():
        tries.append(closed.is_set())
        raise OSError("disk full")

    closed.set()
    background.start_thread(worker(published), work, closed).join(30)
    assert tries == [True]
    closed.clear()
    tries.clear()
    thread = background.start_thread(worker(published, 60.0), work, closed)
    while not tries:
        time.sleep(0.01)
    closed.set()
    thread.join(30)
    assert tries == [False, True]


def test_work_goes_on_where_nothing_can_be_published():
    def full(*_):
        raise OSError("no space left on device")

    own, rounds = Worker("registry", 0.0, full, 0.0), []

    def work():
        own.succeed()
        rounds.append(1)
        if len(rounds) < 3:
            raise OSError("ended")

    background.start_thread(own, work, threading.Event()).join(30)
    assert len(rounds) == 3


def test_a_reason_is_logged_once_until_it_changes_or_the_work_succeeds(published, caplog):
    own = worker(published)
    for address in ("0x7f01", "0x7f02", "0x7f03"):
        own.fail(OSError(f"<Connection object at {address}>: refused"))
    assert caplog.text.count("recording failed, and is tried again: <Connection object at 0x7f01>: refused") == 1
    assert caplog.text.count("refused") == 1
    own.fail(OSError("disk full"))
    own.succeed()
    own.fail(OSError("disk full"))
    assert caplog.text.count("disk full") == 2
    assert own.failures == sum(failures for _, failures in published) == 5


def test_the_last_success_is_that_of_the_work_and_not_of_its_restarts(published, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(background.time, "time", lambda: now)
    own = worker(published)
    now = 2000.0
    own.fail(OSError("disk full"))
    assert published[-1] == (1000.0, 1)
    own.succeed()
    assert published[-1] == (2000.0, 0)


def test_a_task_goes_on_after_errors_and_stray_cancellations_and_ends_when_it_is_cancelled(published):
    rounds = []

    async def work():
        rounds.append(1)
        if len(rounds) == 1:
            raise ConnectionError("the runner is away")
        if len(rounds) == 2:
            raise asyncio.CancelledError  # as a library may, of something of its own

    async def main():
        task = asyncio.create_task(background.repeat(worker(published), work))
        while len(rounds) < 5:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert sum(failures for _, failures in published) == 2


def test_waits_double_up_to_the_longest_and_begin_anew():
    backoff = Backoff(5.0)
    assert [backoff.wait_s() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.wait_s() == 1
