"""Read jobs in several processes, in order; a job that ends its process or hangs is refused, the others are read.

A file may come from anywhere, and the libraries that decode images are no Python: a crash, a decoder that never ends or
one that takes all memory must cost one file. Pixels come from the processes through files that are written over and
over, which stay in memory: through a pipe they take longer than their decoding allows.
"""

import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from fatescope import processes
from fatescope.errors import DataError
from fatescope.processes import HungError
from pipelines.ingestion.files import Job
from pipelines.ingestion.reader import Chunk

MAX_CRASHES = 20
"""More files or ranges of objects than this do not end their processes by themselves: something else kills them."""
CRASH = "reading it ended the process, through a damaged file or for want of memory; copy or save it again"
HANG = "reading it did not come to an end, through a damaged file or a disk that does not answer; copy or save it again"
_ENDINGS = (BrokenProcessPool, HungError, MemoryError)


class JobReader(Protocol):
    """What reads jobs, see `reader.Reader`."""

    def read(self, job: Job) -> Chunk:
        """Return the cells of a job; may be called in another process."""

    def refuse(self, job: Job, reason: str) -> Chunk:
        """Return the chunk of a job that cannot be read, because of what it does to the process that reads it."""

    def time_limit_s(self, job: Job) -> float:
        """Return the time after which reading a job will not come to an end any more, many times what it takes."""


def read_in_order(reader: JobReader, jobs: Iterator[Job], workers: int) -> Iterator[Chunk]:
    """Yield what `reader` reads of each job, in order, from `workers` processes, or from this one if that is 0.

    Only a few results wait at a time, so that memory does not grow with the number of jobs. Raises DataError where
    processes end too often. In this process nothing can end a job that hangs.
    """
    if workers == 0:
        yield from map(reader.read, jobs)
        return
    with tempfile.TemporaryDirectory(prefix="fatescope-ingest-") as folder:
        files = [Path(folder) / str(i) for i in range(2 * workers)]
        for file in files:
            file.touch()
        yield from _read_with(reader, jobs, workers, files)


def _read_with(reader: JobReader, jobs: Iterator[Job], workers: int, files: list[Path]) -> Iterator[Chunk]:
    """Yield the chunks of `read_in_order`, the pixels of as many as there are `files` being read at a time."""
    crashes = 0
    pool = _start(workers)
    try:
        waiting = deque(_submit(pool, reader, job, file) for file, job in zip(files, jobs, strict=False))
        while waiting:
            reading = waiting.popleft()
            try:
                others = [other.future for other in waiting]
                result = processes.result(reading.future, others, partial(reader.time_limit_s, reading.job))
                chunk = result.take(reading.file)
                waiting.extend(_submit(pool, reader, job, reading.file) for job in islice(jobs, 1))
                yield chunk
            except _ENDINGS:
                # Any of those in flight may be the cause, so that one is read after the other.
                processes.kill(pool)
                in_flight = [part for other in (reading, *waiting) for part in _split(other.job)]
                for chunk, crashed in _read_singly(reader, in_flight, files[0]):
                    crashes += crashed
                    if crashes > MAX_CRASHES:
                        raise DataError(
                            f"{crashes} processes that read files were killed; is there enough memory, and does the "
                            "disk answer? set ingest.workers to 1 to see what happens in one"
                        ) from None
                    yield chunk
                pool = _start(workers)
                waiting = deque(_submit(pool, reader, job, file) for file, job in zip(files, jobs, strict=False))
        pool.shutdown()
    finally:
        processes.kill(pool)


@dataclass(frozen=True)
class _Result:
    """A chunk without its pixels, which another process wrote into a file."""

    chunk: Chunk
    cells: int

    def take(self, file: Path) -> Chunk:
        """Return the chunk with the pixels in `file`, which may be used again."""
        none = self.chunk.pixels
        shape = self.cells, *none.shape[1:]
        return replace(self.chunk, pixels=np.fromfile(file, none.dtype, int(np.prod(shape))).reshape(shape))


@dataclass(frozen=True)
class _Reading:
    """A job that another process reads."""

    job: Job
    file: Path
    """Where its pixels come."""
    future: "Future[_Result]"


def _read(reader: JobReader, job: Job, file: Path) -> _Result:
    """Read a job in another process, and write the pixels into `file`."""
    chunk = reader.read(job)
    # Over what is there: memory that the file has already is not asked for again.
    with file.open("r+b", buffering=0) as raw:
        raw.write(np.ascontiguousarray(chunk.pixels).data)
    return _Result(replace(chunk, pixels=chunk.pixels[:0]), len(chunk.pixels))


def _start(workers: int) -> ProcessPoolExecutor:
    return processes.start(workers, [__name__])


def _submit(pool: ProcessPoolExecutor, reader: JobReader, job: Job, file: Path) -> _Reading:
    """Start to read a job; where the pool is found broken its result says so, and the job is not lost."""
    try:
        return _Reading(job, file, pool.submit(_read, reader, job, file))
    except BrokenProcessPool as error:
        failed = Future[_Result]()
        failed.set_exception(error)
        return _Reading(job, file, failed)


def _split(job: Job) -> list[Job]:
    """Return a job as jobs of one file; objects of a native file stay together."""
    return [[path] for path in job] if isinstance(job, list) else [job]


def _read_singly(reader: JobReader, jobs: list[Job], file: Path) -> Iterator[tuple[Chunk, bool]]:
    """Yield the chunk of each job, one after the other from one process, and whether it has ended that.

    Pixels come through `file`.
    """
    pool = _start(1)
    try:
        for job in jobs:
            try:
                future = _submit(pool, reader, job, file).future
                yield processes.result(future, (), partial(reader.time_limit_s, job)).take(file), False
            except _ENDINGS as error:
                processes.kill(pool)
                yield reader.refuse(job, HANG if isinstance(error, HungError) else CRASH), True
                pool = _start(1)
        pool.shutdown()
    finally:
        processes.kill(pool)
