"""Classify a folder of images: `make score SRC=folder OUT=folder`, or `python -m service.batch.run --help`.

Small and large jobs are the same code (`service.batch.worker`): on this machine by processes, or, with `--ray ADDRESS`
(`auto` for the cluster that this machine is of), by Ray Data, one actor a GPU or group of cores. SRC and OUT must then
be at the same place on every node. A job that was cut off goes on where it was when the same command is given again,
with the model that it was begun with.
"""

import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import fields
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fatescope import ray_session
from fatescope.command import run
from fatescope.errors import BundleError, DataError
from fatescope.inference import bundle
from service.batch import job
from service.batch.worker import Done, Scorer
from service.inference import engines
from service.registry import model_store
from service.registry.model_store import Champion

log = logging.getLogger(__name__)

GROUP = 4
"""Cores of a worker: while the network is on them, its thread that reads ahead takes a part of one."""


def chosen(task: str, model: Path | None) -> Champion:
    """Return the bundle folder `model`, else the champion of `task`, or of the default task where that is empty."""
    if model is not None:
        spec = bundle.open_spec(model)
        if task not in ("", spec.task):
            raise BundleError(f"{model}: a model of task '{spec.task}', not '{task}'")
        return Champion(spec.task, model_store.digest(model), model)
    model_store.settle()
    known = model_store.listed(model_store.folder())
    if task and task not in known:
        raise BundleError(f"--task {task}: no champion; there are {sorted(known)}")
    return known[task] if task else next(iter(known.values()))


def here(out: Path, todo: list[int], workers: int, threads: int) -> Iterator[Done]:
    """Yield what parts came to, done by processes of this machine."""
    if workers == 1 or len(todo) == 1:
        yield from map(Scorer(out, threads).score, todo)
        return
    context = get_context("spawn")
    # One GPU a process, where there are some.
    places = context.Queue()
    for place in range(workers):
        places.put(place)
    pool = ProcessPoolExecutor(workers, context, _begin, (out, threads, places))
    try:
        yield from pool.map(_score, todo)
    except BrokenProcessPool as error:
        raise DataError("a process was killed; give the same command again to go on") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(out: Path, threads: int, places: "Queue[int]") -> None:
    place = places.get()
    if engines.gpus():
        engines.take_gpu(place)
    global _scorer  # noqa: PLW0603  a pool has no other place for what its processes keep
    _scorer = Scorer(out, threads)


def _score(part: int) -> Done:
    return _scorer.score(part)


_scorer: Scorer


class Actor:
    """A Scorer in an actor of Ray Data."""

    def __init__(self, out: str, threads: int) -> None:
        self._scorer = Scorer(Path(out), threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Work on the parts of a batch."""
        done = [self._scorer.score(int(part)) for part in batch["part"]]
        return {each.name: [getattr(one, each.name) for one in done] for each in fields(Done)}


def spread(out: Path, todo: list[int], workers: int, threads: int, address: str) -> Iterator[Done]:
    """Yield what parts came to, done by actors of the Ray cluster at `address`; a node that is lost costs nothing."""
    with ray_session.connect(address, log_to_driver=False) as ray:
        found = ray.cluster_resources()
        gpus = int(found.get("GPU", 0))
        # An actor is on one node, with no more cores than the smallest has.
        smallest = min(int(each["Resources"].get("CPU", 1)) for each in ray.nodes() if each["Alive"])
        threads = threads or min(GROUP, smallest)
        count = workers or gpus or max(1, int(found.get("CPU", 1)) // threads)
        ray.data.DataContext.get_current().enable_progress_bars = False
        # One block a part: what a lost actor was at is done again, and nothing else.
        jobs = ray.data.from_items([{"part": part} for part in todo], override_num_blocks=len(todo))
        done = jobs.map_batches(
            Actor,
            fn_constructor_args=(str(out.resolve()), threads),
            batch_size=1,
            num_cpus=0 if gpus else threads,
            num_gpus=1 if gpus else 0,
            compute=ray.data.ActorPoolStrategy(size=min(count, len(todo))),
        )
        for row in done.iter_rows():
            yield Done(**row)


def main(
    source: Path,
    out: Path,
    task: str = "",
    model: Path | None = None,
    workers: int = 0,
    threads: int = 0,
    ray: str = "",
) -> None:
    """Classify the images below SOURCE into the folder OUT.

    TASK chooses among the champions of the registry, MODEL a bundle folder instead. WORKERS processes of THREADS CPU
    threads each; 0 is one a GPU, or one a group of cores.
    """
    gpus, cores = engines.gpus(), len(os.sched_getaffinity(0))
    planned = job.begun(source, out, model) or job.begin(source, out, chosen(task, model))
    todo = job.undone(out, planned.parts)
    of_all = f"{planned.files} files, {len(todo)} of {planned.parts} parts to do"
    log.info("%s version %s: %s", planned.model, planned.version, of_all)
    if ray:
        work = partial(spread, workers=workers, threads=threads, address=ray)
    else:
        each = threads or (max(1, cores // gpus) if gpus else min(GROUP, cores))
        work = partial(here, workers=workers or gpus or max(1, cores // each), threads=each)
    for done in tqdm(work(out, todo) if todo else (), total=len(todo), unit="part", disable=None):
        if done.refused:
            tqdm.write(f"part {done.part}: {done.refused} refused", file=sys.stderr)
    if missing := job.undone(out, planned.parts):
        raise DataError(f"{out}: {len(missing)} parts are not done; give the same command again to go on")
    told = job.summarise(out, planned.parts)
    log.info("%d cells, %d refused: %s", told["cells"], told["refused"].total(), out / job.SUMMARY)


if __name__ == "__main__":
    run(main)
