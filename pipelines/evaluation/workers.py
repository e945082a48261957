"""The cores of this machine for work on many cells: descriptions and fits that know nothing of each other."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import starmap
from typing import Any, Protocol

from fatescope import processes

MIN_CELLS = 1_000
"""Fewer are done sooner than processes have started."""
_MODULES = ("pipelines.evaluation.confounding", "pipelines.evaluation.instrument")


class StarMap(Protocol):
    """Calls a function of a module with each of the arguments, as `itertools.starmap` does, and keeps their order."""

    def __call__(self, function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], /) -> Iterator[Any]:
        """Return an iterator over the results."""


@contextmanager
def for_cells(cells: int) -> Iterator[StarMap]:
    """Yield what does the work on so many cells: a process for each core, or this one where they are few."""
    cores = processes.available_cores()
    if cores < 2 or cells < MIN_CELLS:
        yield starmap
        return
    pool = processes.start(cores, _MODULES)

    def submit(function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], /) -> Iterator[Any]:
        futures = [pool.submit(function, *job) for job in jobs]
        return (future.result() for future in futures)

    try:
        yield submit
    finally:
        pool.shutdown(cancel_futures=True)
