"""Read jobs in several processes, in order; a job that ends its process is refused, and the others are read.

A file may come from anywhere, and the libraries that decode images are no Python: a crash must cost one file.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import Protocol

from fatescope.errors import DataError
from pipelines.ingestion.files import Job
from pipelines.ingestion.reader import Chunk

MAX_CRASHES = 20
"""More files or ranges of objects than this do not end their processes by themselves: something else kills them."""


class JobReader(Protocol):
    """What reads jobs, see `reader.Reader`."""

    def read(self, job: Job) -> Chunk:
        """Return the cells of a job; may be called in another process."""

    def refuse(self, job: Job) -> Chunk:
        """Return the chunk of a job that ends the process that reads it."""


def read_in_order(reader: JobReader, jobs: Iterator[Job], workers: int) -> Iterator[Chunk]:
    """Yield what `reader` reads of each job, in order, from `workers` processes, or from this one if that is 1.

    Only a few results wait at a time, so that memory does not grow with the number of jobs. Raises DataError where
    processes end too often.
    """
    if workers == 1:
        yield from map(reader.read, jobs)
        return
    crashes = 0
    waiting: deque[tuple[Job, Future[Chunk]]] = deque()
    pool = _start(workers)
    try:
        waiting.extend((job, _submit(pool, reader, job)) for job in islice(jobs, 2 * workers))
        while waiting:
            job, future = waiting.popleft()
            try:
                chunk = future.result()
                waiting.extend((job, _submit(pool, reader, job)) for job in islice(jobs, 1))
                yield chunk
            except BrokenProcessPool:
                # Any of those in flight may be the cause, so that one is read after the other.
                pool.shutdown()
                in_flight = [job, *(waits for waits, _ in waiting)]
                for chunk, crashed in _read_singly(reader, [part for whole in in_flight for part in _split(whole)]):
                    crashes += crashed
                    if crashes > MAX_CRASHES:
                        raise DataError(
                            f"{crashes} processes that read files were killed; is there enough memory? set "
                            "ingest.workers to 1 to see what happens in one"
                        ) from None
                    yield chunk
                waiting.clear()
                pool = _start(workers)
                waiting.extend((job, _submit(pool, reader, job)) for job in islice(jobs, 2 * workers))
    finally:
        pool.shutdown(cancel_futures=True)


def _start(workers: int) -> ProcessPoolExecutor:
    # Not forked: the parent may have threads (PyTorch's, for example), and a fork of those can deadlock.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def _submit(pool: ProcessPoolExecutor, reader: JobReader, job: Job) -> "Future[Chunk]":
    """Return the result of a job; that of one which finds the pool broken says so, and the job is not lost."""
    try:
        return pool.submit(reader.read, job)
    except BrokenProcessPool as error:
        failed = Future[Chunk]()
        failed.set_exception(error)
        return failed


def _split(job: Job) -> list[Job]:
    """Return a job as jobs of one file; objects of a native file stay together."""
    return [[path] for path in job] if isinstance(job, list) else [job]


def _read_singly(reader: JobReader, jobs: list[Job]) -> Iterator[tuple[Chunk, bool]]:
    """Yield the chunk of each job, one after the other from one process, and whether it has ended that."""
    pool = _start(1)
    try:
        for job in jobs:
            try:
                yield _submit(pool, reader, job).result(), False
            except BrokenProcessPool:
                yield reader.refuse(job), True
                pool.shutdown()
                pool = _start(1)
    finally:
        pool.shutdown(cancel_futures=True)
