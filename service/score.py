"""Classify a folder of images: `make score SRC=folder OUT=folder`, or `python -m service.score --help`.

Small and large jobs are the same code (`service.scoring`): on this machine by processes, or, with `--ray ADDRESS`
(`auto` for the cluster that this machine is of), by Ray Data, one actor a GPU or group of cores. SRC and OUT must then
be at the same place on every node. A job that was cut off goes on where it was when the same command is given again.
"""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipelines.core import bundle
from pipelines.core.command import run
from pipelines.core.errors import BundleError, DataError
from service import champions, engines, scoring
from service.champions import Champion
from service.scoring import Done, Scorer

log = logging.getLogger(__name__)

GROUP = 4
"""Cores of a worker: while the network is on them, its thread that reads ahead takes a part of one."""


def chosen(task: str, model: Path | None) -> Champion:
    """Return the bundle folder `model`, else the champion of `task`, or of the default task where that is empty."""
    if model is not None:
        spec = bundle.open_spec(model)
        if task not in ("", spec.task):
            raise BundleError(f"{model}: a model of task '{spec.task}', not '{task}'")
        return Champion(spec.task, model.name, model)
    champions.settle()
    known = champions.listed(champions.folder())
    if task and task not in known:
        raise BundleError(f"--task {task}: no champion; there are {sorted(known)}")
    return known[task] if task else next(iter(known.values()))


def here(out: Path, parts: list[int], workers: int, threads: int) -> Iterator[Done]:
    """Yield what parts came to, done by processes of this machine."""
    if workers == 1 or len(parts) == 1:
        yield from map(Scorer(out, threads).score, parts)
        return
    context = get_context("spawn")
    # One GPU a process, where there are some.
    devices = context.Queue()
    for i in range(workers):
        devices.put(i % engines.gpus() if engines.gpus() else None)
    pool = ProcessPoolExecutor(workers, context, _begin, (out, threads, devices))
    try:
        yield from pool.map(_score, parts)
    except BrokenProcessPool as error:
        raise DataError("a process was killed; give the same command again to go on") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(out: Path, threads: int, devices: "Queue[int | None]") -> None:
    device = devices.get()
    if device is not None:
        allowed = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(engines.gpus())))).split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = allowed[device]
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
        return {name: [getattr(each, name) for each in done] for name in ("part", "cells", "refused", "seconds")}


def spread(out: Path, parts: list[int], workers: int, threads: int, address: str) -> Iterator[Done]:
    """Yield what parts came to, done by actors of the Ray cluster at `address`; a node that is lost costs nothing."""
    try:
        import ray  # noqa: PLC0415  an extra
    except ImportError as error:
        raise DataError("Ray is not installed; pip install -c constraints.txt 'fatescope[ray]'") from error

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    try:
        found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = int(found.get("GPU", 0))
        # An actor is on one node, with no more cores than the smallest has.
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        smallest = min(int(each["Resources"].get("CPU", 1)) for each in nodes if each["Alive"])
        threads = threads or min(GROUP, smallest)
        count = workers or gpus or max(1, int(found.get("CPU", 1)) // threads)
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray.data.DataContext.get_current().enable_progress_bars = False
        # Parts that were done are not done again by a retry of the whole: a lost actor costs its part.
        jobs = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
        done = jobs.map_batches(
            Actor,
            fn_constructor_args=(str(out.resolve()), threads),
            batch_size=1,
            num_cpus=0 if gpus else threads,
            num_gpus=1 if gpus else 0,
            compute=ray.data.ActorPoolStrategy(size=min(count, len(parts))),
        )
        for row in done.iter_rows():
            yield Done(**row)
    finally:
        ray.shutdown()


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
    planned = scoring.plan(source, out, chosen(task, model))
    todo = scoring.undone(out, planned.parts)
    log.info(
        "%s version %s: %d files, %d of %d parts to do",
        planned.model,
        planned.version,
        planned.files,
        len(todo),
        planned.parts,
    )
    each = threads or (max(1, cores // gpus) if gpus else min(GROUP, cores))
    count = workers or gpus or max(1, cores // each)
    if ray:
        work = partial(spread, workers=workers, threads=threads, address=ray)
    else:
        work = partial(here, workers=count, threads=each)
    with tqdm(total=len(todo) * scoring.PART_FILES, unit="file", disable=None) as bar:
        for done in work(out, todo) if todo else ():
            bar.update(scoring.PART_FILES)
            if done.refused:
                bar.write(f"part {done.part}: {done.refused} refused")
    if missing := scoring.undone(out, planned.parts):
        raise DataError(f"{out}: {len(missing)} parts are not done; give the same command again to go on")
    told = scoring.summarise(out, planned.parts)
    log.info("%d cells, %d refused: %s", told["cells"], sum(told["refused"].values()), out / scoring.SUMMARY)


if __name__ == "__main__":
    run(main)
