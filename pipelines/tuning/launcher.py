"""Places the workers of a search: in processes of this machine, or on the Ray cluster that `FATESCOPE_RAY` names.

On this machine each worker sees one GPU, where there are any. On a cluster (`auto`: this machine's) each is a task that
takes a GPU, where the cluster has some, or the CPUs of its threads, and is not begun again by Ray: what a lost worker
was at is tried again by the others, through the database of studies.
"""

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fatescope import ray_session
from fatescope.errors import ParamsError
from pipelines.tuning.study import STUDIES, stoppable

log = logging.getLogger(__name__)

ADDRESS = "FATESCOPE_RAY"
TRACKING = "MLFLOW_TRACKING_URI"
VISIBLE = "CUDA_VISIBLE_DEVICES"
_SHARED = ("FATESCOPE_", "MLFLOW_", "AWS_", "OMP_")
"""What the names of variables begin with that a worker needs, wherever it is."""


def work_side_by_side(work: Callable[..., None], arguments: tuple[Any, ...], count: int, threads: int) -> None:
    """Run `work(*arguments)` in `count` workers of `threads` CPU threads each, and wait.

    A worker that dies does not end the others; Ctrl-C and SIGTERM end all.
    """
    if os.environ.get(ADDRESS):
        place(work, arguments, count, threads)
    elif count == 1:
        _work(work, arguments)
    else:
        _spawn(work, arguments, count)


def _work(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Work in a process that has nothing else to do than to be ended."""
    with stoppable():
        work(*arguments)


def _spawn(work: Callable[..., None], arguments: tuple[Any, ...], count: int) -> None:
    context = multiprocessing.get_context("spawn")
    begun = [context.Process(target=_work, args=(work, arguments)) for _ in range(count)]
    gpus, visible = torch.cuda.device_count(), os.environ.get(VISIBLE)
    with stoppable():
        try:
            for number, each in enumerate(begun):
                with _seeing(gpu_of(number, gpus, visible)):
                    each.start()
            for each in begun:
                each.join()
        except KeyboardInterrupt:
            # Ctrl-C reaches all of them by itself, SIGTERM this process alone.
            living = multiprocessing.active_children()
            for worker in living:
                worker.terminate()
            for worker in living:
                worker.join()
            raise
    if any(each.exitcode for each in begun):
        log.warning("workers ended with %s; the others went on", [each.exitcode for each in begun])


def gpu_of(place: int, count: int, visible: str | None) -> str | None:
    """Return what CUDA_VISIBLE_DEVICES is to be for the worker at `place`: one of the `count` GPUs that are seen now.

    `visible` is what it is now. None where there is no GPU.
    """
    names = visible.split(",")[:count] if visible else [str(number) for number in range(count)]
    return names[place % len(names)].strip() if names else None


@contextmanager
def _seeing(gpu: str | None) -> Iterator[None]:
    """Let the processes that the block starts see this GPU alone; without one, what this process sees."""
    before = dict(os.environ)
    if gpu is not None:
        os.environ[VISIBLE] = gpu
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def place(work: Callable[..., None], arguments: tuple[Any, ...], count: int, threads: int) -> None:
    """Run `work(*arguments)` in `count` processes of the cluster, and wait.

    Files that `arguments` name must be at the same place on every node. Raises ParamsError where the workers could not
    find each other, or Ray is not installed.
    """
    for name in (STUDIES, TRACKING):
        if name not in os.environ:
            raise ParamsError(
                f"{ADDRESS} is set, but not {name}: workers on many machines need one that they all reach"
            )
    with ray_session.connect(os.environ[ADDRESS], log_to_driver=True) as ray:
        needs = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": threads}
        known = {name: value for name, value in os.environ.items() if name.startswith(_SHARED)}
        job = ray.remote(max_retries=0)(work)
        begun = [job.options(**needs, runtime_env={"env_vars": known}).remote(*arguments) for _ in range(count)]
        for i, each in enumerate(begun):
            try:
                ray.get(each)
            except ray.exceptions.RayError as error:
                log.warning("worker %d was lost (%s); the others went on", i, type(error).__name__)
