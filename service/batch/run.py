"""Classify a folder of images: `fatescope score SRC --out OUT`.

Small and large jobs run the same code (`service.batch.worker`): in processes of this machine, or, with `--ray ADDRESS`
(`auto` for the cluster of this machine), in actors of Ray Data, one per GPU or group of cores. SRC and OUT must then be
at the same path on every node. The same command continues an interrupted job, with the model that it started with, and
adds what has changed in SRC to one that is done (`service.batch.job`).
"""

import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fatescope import plural, ray_session
from fatescope.errors import BundleError, DataError
from fatescope.inference import bundle
from fatescope.inference.engine_names import EngineChoice
from service.batch import job
from service.batch.local import CORES_PER_WORKER, run_local
from service.batch.lock import locked
from service.batch.plan import Plan, check_champion, check_folders, create_plan, read_plan, update_plan
from service.batch.worker import PartResult, Scorer
from service.registry import model_store, signatures
from service.registry.model_store import Champion
from service.settings import ServiceSettings

log = logging.getLogger(__name__)


def select_model(task: str, model: Path | None, settings: ServiceSettings) -> Champion:
    """Return the bundle folder `model`, else the champion of `task`, or of the default task if that is empty.

    Raises BundleError if there is none, or its signature is refused.
    """
    if model is not None:
        signatures.verify(model, registry=False, warn=True)
        spec = bundle.open_spec(model)
        if task not in ("", spec.task):
            raise BundleError(f"{model}: a model of task '{spec.task}', not '{task}'")
        return Champion(spec.task, model_store.digest(model), model)
    store = model_store.ensure_store(settings)
    champions = model_store.list_champions(store)
    if task and task not in champions:
        raise BundleError(f"--task {task}: no champion; there are champions of {', '.join(champions)}")
    champion = champions[task] if task else next(iter(champions.values()))
    registry = model_store.follows_registry(store)
    signatures.verify(champion.path, registry=registry, warn=not registry)
    model_store.check_task(champion, bundle.open_spec(champion.path))
    return champion


class Actor:
    """A Scorer in an actor of Ray Data; the engine is that of the node's own environment."""

    def __init__(self, out: str, threads: int) -> None:
        self._scorer = Scorer(Path(out), ServiceSettings.read().engine, threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Classify the parts of a batch."""
        rows = [asdict(self._scorer.score(int(part))) for part in batch["part"]]
        return {name: [row[name] for row in rows] for name in rows[0]}


def run_on_ray(out: Path, pending: list[int], workers: int, threads: int, address: str) -> Iterator[PartResult]:
    """Yield the results of the `pending` parts, classified on the Ray cluster at `address`, which may lose nodes."""
    with ray_session.connect(address, log_to_driver=False) as ray:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        # An actor runs on one node, and so on no more cores than the smallest one has.
        smallest = min(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
        threads = threads or min(CORES_PER_WORKER, smallest)
        count = workers or gpus or max(1, int(resources.get("CPU", 1)) // threads)
        ray.data.DataContext.get_current().enable_progress_bars = False
        # One block per part, so that only the part of a lost actor is repeated.
        parts = ray.data.from_items([{"part": part} for part in pending], override_num_blocks=len(pending))
        results = parts.map_batches(
            Actor,
            fn_constructor_args=(str(out.resolve()), threads),
            batch_size=1,
            num_cpus=0 if gpus else threads,
            num_gpus=1 if gpus else 0,
            compute=ray.data.ActorPoolStrategy(size=min(count, len(pending))),
        )
        for row in results.iter_rows():
            yield PartResult(**row)


def score(  # noqa: PLR0913, PLR0917  what the command takes
    source: Path,
    out: Path,
    task: str = "",
    model: Path | None = None,
    workers: int = 0,
    threads: int = 0,
    ray: str = "",
    quality: bool | None = None,
) -> None:
    """Classify the images below `source` into the folder `out`.

    `task` chooses among the champions of the registry; `model` is a bundle folder to use instead. `workers` processes
    run with `threads` CPU threads each; 0 means one worker per GPU, or per group of cores, and 1 this process, which no
    file may then crash. `ray` is the address of a cluster to use instead of this machine. `quality` says whether the
    quality of cells is measured, None as the job began, or with it. Raises DataError, BundleError or ParamsError.
    """
    settings = ServiceSettings.read()
    check_folders(source, out)
    with locked(out):
        plan = _plan(source, out, task, model, settings, quality)
        pending = job.pending_parts(out, plan.parts)
        log.info(
            "%s version %s: %s, %d of %s to do", plan.model, plan.version,
            plural.count(plan.files, "file"), len(pending), plural.count(plan.parts, "part"),
        )  # fmt: skip
        results = _classify(out, pending, workers, threads, ray, settings.engine) if pending else ()
        for result in tqdm(results, total=len(pending), unit="part", disable=None):
            if result.refused and log.isEnabledFor(logging.INFO):
                tqdm.write(f"part {result.part}: {result.refused} refused", file=sys.stderr)
        if missing := job.pending_parts(out, plan.parts):
            parts = plural.count(len(missing), "part is", "parts are")
            raise DataError(f"{out}: {parts} not done; run the same command again to continue")
        summary = job.summarise(out, plan.parts)
    refused = sum(summary.refused.values())
    log.info("%s, %d refused: %s", plural.count(summary.cells, "cell"), refused, out / job.SUMMARY)


def _plan(
    source: Path, out: Path, task: str, model: Path | None, settings: ServiceSettings, quality: bool | None
) -> Plan:
    """Return what is to be done in `out`: a new plan, or the one there with what has changed in the source since."""
    plan = read_plan(source, out, model, task, quality=quality)
    if plan is None:
        return create_plan(source, out, select_model(task, model, settings), quality=quality is not False)
    # One that was cut off goes on with its model, also when that is not the champion any more.
    if model is None and (out / job.SUMMARY).exists():
        try:
            check_champion(out, plan, select_model(plan.task, None, settings))
        except BundleError as error:
            raise BundleError(
                f"{error}; or add `--model {out / job.MODEL}` to go on with the model of {out}"
            ) from error
    plan, changes = update_plan(out, plan)
    changed = sum(map(len, changes.changed.values()))
    if changes.new or changed:
        new = plural.count(len(changes.new), "new file")
        changed_too = plural.count(changed, "that has", "that have")
        log.info("%s: %s and %s changed since it was listed", source, new, changed_too)
    if gone := len(changes.vanished):
        log.warning(
            "%s: %s not there any more, such as %s; what %s gave stays (%s names %s)",
            source, plural.count(gone, "file that was listed is", "files that were listed are"), changes.vanished[0],
            plural.agree(gone, "it", "they"), out / job.VANISHED, plural.agree(gone, "it", "them"),
        )  # fmt: skip
    return plan


def _classify(
    out: Path, pending: list[int], workers: int, threads: int, ray: str, engine: EngineChoice | None
) -> Iterator[PartResult]:
    if ray:
        return run_on_ray(out, pending, workers, threads, ray)
    return run_local(out, pending, workers, threads, engine)
