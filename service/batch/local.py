"""Run a batch job in processes of this machine, so that a file that crashes or hangs its decoder costs itself.

Parts are classified by several processes. Where one of these is killed, or none gets on any more, the entries of the
parts in progress are decoded one by one in a process without a network, those that end it or hang are refused, and the
parts are done again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from ctypes import Array, c_ulonglong
from functools import cache, partial
from itertools import islice
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

from fatescope import plural, processes
from fatescope.errors import DataError
from fatescope.inference import bundle
from fatescope.inference.engine_names import EngineChoice
from fatescope.processes import HungError
from service.batch import job
from service.batch.plan import source_of
from service.batch.reading import decode_entry
from service.batch.worker import EntryReader, PartResult, Scorer
from service.inference import engines
from service.inference.decoding import CellDecoder

CORES_PER_WORKER = 4
"""While the network uses them, the thread that decodes ahead takes a fraction of one."""
PATIENCE_S = 300.0
"""In which a process loads the network, or reads another cell, at the latest; a cell takes milliseconds."""
MAX_CRASHES = 20
"""More entries than this do not end their processes by themselves: something else kills them."""
CRASH = "decoding it ended the process, through a damaged file or for want of memory; copy or save it again"
HANG = (
    "decoding it did not come to an end, through a damaged file or a disk that does not answer; copy or save it again"
)
_ENDINGS = (BrokenProcessPool, HungError, MemoryError)


def run_local(
    out: Path, pending: list[int], workers: int, threads: int, engine: EngineChoice | None
) -> Iterator[PartResult]:
    """Yield the results of the `pending` parts; raises DataError where processes end for another reason than a file.

    `workers` and `threads` of each are chosen where they are 0; with 1 worker the parts are classified in this process,
    which nothing protects.
    """
    gpus, cores = engines.gpus(), engines.available_cores()
    threads = threads or (max(1, cores // gpus) if gpus else min(CORES_PER_WORKER, cores))
    if workers == 1:
        yield from map(Scorer(out, engine, threads).score, pending)
        return
    workers = min(workers or gpus or max(1, cores // threads), len(pending))
    left, refused = list(pending), dict[str, str]()
    while left:
        pool = _Pool(out, workers, threads, engine, decode_entry)
        futures = {part: pool.submit(part, refused) for part in left}
        try:
            for result in pool.results(futures.values()):
                left.remove(result.part)
                yield result
            pool.close()
        except _ENDINGS as error:
            pool.kill()
            for part in filter(lambda part: _has_result(futures[part]), list(left)):
                left.remove(part)
                yield futures[part].result()
            # Those that began first were in progress; any may be the cause.
            fatal = _find_fatal(out, left[:workers], refused, decode_entry)
            found = dict(islice(fatal, MAX_CRASHES + 1 - len(refused)))
            refused |= found
            if not found or len(refused) > MAX_CRASHES:
                raise DataError(_explain(error, len(refused))) from error
        finally:
            pool.kill()


def _has_result(future: "Future[PartResult]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _explain(error: BaseException, refused: int) -> str:
    hung = f"no process has read another cell for {PATIENCE_S:g} s"
    what = hung if isinstance(error, HungError) else "a process was killed"
    files = f", after {plural.count(refused, 'file')} that did this" if refused else ""
    return f"{what}{files}; is there enough memory, and does the disk answer? run the same command again to continue"


class _Pool:
    """Processes with a network each, and a count by which it is seen that they get on."""

    def __init__(self, out: Path, workers: int, threads: int, engine: EngineChoice | None, read: EntryReader) -> None:
        # Spawned, because a fork of a process with threads may deadlock.
        context = get_context("spawn")
        # One GPU per process, if there are GPUs.
        gpu_indices = context.Queue()
        for index in range(workers):
            gpu_indices.put(index)
        self._cells = context.RawArray(c_ulonglong, workers)
        arguments = (out, engine, threads, gpu_indices, self._cells, read)
        self._pool = ProcessPoolExecutor(workers, context, _start_process, arguments)

    def submit(self, part: int, refused: Mapping[str, str]) -> "Future[PartResult]":
        """Start on a part."""
        return self._pool.submit(_score, part, dict(refused))

    def results(self, futures: Iterable["Future[PartResult]"]) -> Iterator[PartResult]:
        """Yield the results as `processes.result` returns them."""
        waiting = list(futures)
        while waiting:
            yield processes.result(waiting.pop(0), waiting, lambda: PATIENCE_S, lambda: sum(self._cells))

    def close(self) -> None:
        """End the processes, which have nothing left to do."""
        self._pool.shutdown()

    def kill(self) -> None:
        """End the processes at once."""
        processes.kill(self._pool)


def _start_process(
    out: Path,
    engine: EngineChoice | None,
    threads: int,
    gpu_indices: "Queue[int]",
    cells: "Array[c_ulonglong]",
    read: EntryReader,
) -> None:
    index = gpu_indices.get()
    if engines.gpus():
        engines.select_gpu(index)

    def count() -> None:
        cells[index] += 1

    global _scorer  # noqa: PLW0603  a pool has no other place for the state of its processes
    # Loaded with the first part, so that what is wrong with the model is raised where that is waited for.
    _scorer = cache(partial(Scorer, out, engine, threads, read, count))


def _score(part: int, refused: Mapping[str, str]) -> PartResult:
    return _scorer().score(part, refused)


_scorer: Callable[[], Scorer]


def _find_fatal(
    out: Path, parts: Iterable[int], known: Mapping[str, str], read: EntryReader
) -> Iterator[tuple[str, str]]:
    """Yield the entries of `parts`, but for the `known`, that end the process that decodes them, and why."""
    pool = processes.start(1, [__name__])
    try:
        for entry in [entry for part in parts for entry in job.part_files(out, part) if entry not in known]:
            try:
                processes.result(pool.submit(_try, read, out, entry), (), lambda: PATIENCE_S)
            except _ENDINGS as error:
                processes.kill(pool)
                yield entry, HANG if isinstance(error, HungError) else CRASH
                pool = processes.start(1, [__name__])
    finally:
        processes.kill(pool)


def _try(read: EntryReader, out: Path, entry: str) -> None:
    """Decode an entry, and keep nothing."""
    for _ in read(CellDecoder(bundle.open_spec(out / job.MODEL)), source_of(out), entry):
        pass
