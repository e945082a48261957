"""Start the workers of a search: as processes of this machine, or on a Ray cluster.

On this machine each worker sees one GPU, where there are any. On a cluster (`FATESCOPE_RAY`) each worker is a task that
takes a GPU, where the cluster has some, or the CPUs of its threads. Ray does not restart a lost worker: the others try
its trial again, through the database of studies.
"""

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from fatescope import ray_session
from fatescope.errors import ParamsError
from pipelines.settings import PipelineSettings
from pipelines.tuning.interrupts import interruptible

log = logging.getLogger(__name__)

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_FORWARDED = ("FATESCOPE_", "MLFLOW_", "AWS_", "OMP_")
"""Prefixes of the environment variables that a worker on another machine needs."""


@dataclass(frozen=True)
class Workers:
    """The workers of a search."""

    count: int
    threads: int
    """CPU threads of each."""


def run_workers(
    work: Callable[..., None], arguments: tuple[Any, ...], workers: Workers, settings: PipelineSettings
) -> None:
    """Run `work(*arguments)` in all `workers`, and wait for them.

    A worker that is lost does not end the others; Ctrl-C and SIGTERM end all.
    """
    if settings.ray is not None:
        _run_on_ray(work, arguments, workers, settings)
    elif workers.count == 1:
        _work(work, arguments)
    else:
        _run_processes(work, arguments, workers.count, settings)


def _work(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    with interruptible():
        work(*arguments)


def _run_processes(
    work: Callable[..., None], arguments: tuple[Any, ...], count: int, settings: PipelineSettings
) -> None:
    # Spawned, because a fork of a process with threads, such as those of PyTorch, may hang.
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(work, arguments)) for _ in range(count)]
    gpus = torch.cuda.device_count()
    with interruptible():
        try:
            for number, process in enumerate(processes):
                with _visible(choose_gpu(number, gpus, settings.visible_gpus)):
                    process.start()
            for process in processes:
                process.join()
        except KeyboardInterrupt:
            _terminate(processes)
            raise
    if any(process.exitcode for process in processes):
        log.warning("workers ended with %s; the others went on", [process.exitcode for process in processes])


def _terminate(processes: list[SpawnProcess]) -> None:
    # Ctrl-C reaches the workers by itself, SIGTERM the parent alone.
    started = [process for process in processes if process.pid is not None]
    for process in started:
        process.terminate()
    for process in started:
        process.join()


def choose_gpu(number: int, count: int, visible: str | None) -> str | None:
    """Return the GPU of the worker `number`, as CUDA_VISIBLE_DEVICES names it; None where there is none.

    `count` GPUs are visible to this process, and `visible` is its own CUDA_VISIBLE_DEVICES.
    """
    names = visible.split(",")[:count] if visible else [str(gpu) for gpu in range(count)]
    return names[number % len(names)].strip() if names else None


@contextmanager
def _visible(gpu: str | None) -> Iterator[None]:
    """Let the processes that the block starts see this GPU alone; without one, what this process sees."""
    before = dict(os.environ)
    if gpu is not None:
        os.environ[VISIBLE_GPUS] = gpu
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run_on_ray(
    work: Callable[..., None], arguments: tuple[Any, ...], workers: Workers, settings: PipelineSettings
) -> None:
    """Run `work(*arguments)` in tasks of the cluster, and wait for them.

    Files that `arguments` name must be at the same place on every node. Raises ParamsError where the workers have no
    database or tracking server in common, or Ray is not installed.
    """
    assert settings.ray is not None, "called for a cluster only"
    for name, address in (("FATESCOPE_STUDIES", settings.studies), ("MLFLOW_TRACKING_URI", settings.tracking_uri)):
        if address is None:
            raise ParamsError(
                f"FATESCOPE_RAY is set, but not {name}: set the address of one that workers on all machines reach"
            )
    with ray_session.connect(settings.ray, log_to_driver=True) as ray:
        needs = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": workers.threads}
        environment = {name: value for name, value in os.environ.items() if name.startswith(_FORWARDED)}
        task = ray.remote(max_retries=0)(work).options(**needs, runtime_env={"env_vars": environment})
        pending = [task.remote(*arguments) for _ in range(workers.count)]
        for number, result in enumerate(pending):
            try:
                ray.get(result)
            except ray.exceptions.RayError as error:
                log.warning("worker %d was lost (%s); the others went on", number, type(error).__name__)
