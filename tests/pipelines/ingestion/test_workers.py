"""A file that ends the process that reads it costs itself, and the cells of all others come in their order."""

import os
import signal
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
import pytest

from fatescope import processes
from fatescope.errors import DataError
from pipelines.ingestion import workers
from pipelines.ingestion.reader import Chunk


@dataclass(frozen=True)
class Fragile:
    """Reads names; one that holds the word ends the process."""

    word: str = "bad"

    def read(self, job):
        if any(self.word in name for name in job):
            os.kill(os.getpid(), signal.SIGKILL)
        return Chunk({"cell_id": job}, np.empty(0), [], len(job))

    def refuse(self, job, reason):
        return Chunk({"cell_id": []}, np.empty(0), [(name, "unreadable", reason) for name in job], len(job))

    def time_limit_s(self, _job):
        return 60


def read(jobs, **how):
    return list(workers.read_in_order(Fragile(**how), iter(jobs), 2))


@pytest.mark.slow
def test_a_file_that_ends_its_process_costs_itself():
    names = [f"{i}{' bad' if i in (5, 13) else ''}" for i in range(30)]
    chunks = read([names[i : i + 3] for i in range(0, 30, 3)])
    assert [name for chunk in chunks for name in chunk.columns["cell_id"]] == [n for n in names if "bad" not in n]
    assert [refusal[0] for chunk in chunks for refusal in chunk.refused] == ["5 bad", "13 bad"]
    assert sum(chunk.files for chunk in chunks) == 30


@pytest.mark.slow
def test_processes_that_are_killed_again_and_again_end_the_stage(monkeypatch):
    monkeypatch.setattr(workers, "MAX_CRASHES", 2)
    with pytest.raises(DataError, match="3 processes that read files were killed; is there enough memory"):
        read([["a", "b", "c", "d"], ["e"]], word="")


@dataclass(frozen=True)
class Endless(Fragile):
    """Reads names; one that holds the word never ends, and others take a moment."""

    moment_s: float = 0.0

    def read(self, job):
        while any(self.word in name for name in job):
            pass
        time.sleep(self.moment_s)
        return Chunk({"cell_id": job}, np.empty(0), [], len(job))

    def time_limit_s(self, _job):
        return 2


@pytest.mark.slow
@pytest.mark.parametrize("processes_", [1, 2])
def test_a_file_whose_decoder_never_ends_costs_itself(processes_):
    names = [f"{i}{' bad' if i == 4 else ''}" for i in range(12)]
    jobs = [names[i : i + 3] for i in range(0, 12, 3)]
    chunks = list(workers.read_in_order(Endless(), iter(jobs), processes_))
    assert [name for chunk in chunks for name in chunk.columns["cell_id"]] == [n for n in names if "bad" not in n]
    assert [refusal for chunk in chunks for refusal in chunk.refused] == [("4 bad", "unreadable", workers.HANG)]


@pytest.mark.slow
def test_work_that_makes_progress_may_take_longer_than_the_limit():
    jobs = [[f"{i}"] for i in range(6)]
    chunks = list(workers.read_in_order(Endless(moment_s=0.7), iter(jobs), 1))
    assert [chunk.columns["cell_id"] for chunk in chunks] == jobs


class Greedy(Fragile):
    """Reads names; one that holds the word wants nearly all memory of the machine."""

    def read(self, job):
        if any(self.word in name for name in job):
            np.empty(int(0.95 * processes.memory_bytes()), np.uint8)
        return Chunk({"cell_id": job}, np.empty(0), [], len(job))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit the memory of no process")
def test_a_file_that_explodes_in_memory_costs_itself():
    chunks = list(workers.read_in_order(Greedy(), iter([["a", "b bad"], ["c"]]), 1))
    assert [chunk.columns["cell_id"] for chunk in chunks] == [["a"], [], ["c"]]
    assert [refusal for chunk in chunks for refusal in chunk.refused] == [("b bad", "unreadable", workers.CRASH)]


class Pool:
    """A pool in this process that breaks before it takes another job than the first ones."""

    def __init__(self, takes):
        self.left = takes

    def submit(self, read, *job):
        if self.left == 0:
            raise BrokenProcessPool
        self.left -= 1
        future = Future()
        future.set_result(read(*job))
        return future

    def shutdown(self, **_):
        pass


@pytest.mark.parametrize("first", [0, 2, 4, 5, 9])
@pytest.mark.parametrize("second", [0, 3, 99])
def test_a_pool_that_is_broken_when_it_is_given_a_job_loses_none(monkeypatch, first, second):
    pools = iter([first, 99, second])
    monkeypatch.setattr(workers, "_start", lambda _: Pool(next(pools, 99)))
    jobs = [[f"{i}"] for i in range(20)]
    chunks = read(jobs)
    assert [chunk.columns["cell_id"] for chunk in chunks] == jobs
    assert not [chunk for chunk in chunks if chunk.refused]
