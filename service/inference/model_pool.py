"""The models that a gateway serves, and how a new champion replaces the previous one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope.errors import BundleError
from fatescope.model_registry import model_name
from service import background, tracing
from service.background import Worker
from service.inference import metrics
from service.inference.batcher import Batcher
from service.inference.decoding import CellDecoder
from service.inference.errors import RequestError
from service.inference.page_decoder import PageDecoder
from service.inference.runner_output import Readiness
from service.inference.served_model import Pixels, RunnerClient, ServedModel
from service.registry import model_store
from service.registry.model_store import Champion, Refused

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

CHECK_INTERVAL_S = 1.0
"""Time between two checks of the list of champions; `service.registry.registry_sync` queries the registry itself."""
RETRY_S = 60.0
"""Time after which a refused champion is tried again: its runner may not have had it yet."""
ABSENT_S = 60.0
"""Time for which one of several runners may not have a version that another has."""
START_TIMEOUT_S = 60.0
"""Time that a runner may take to answer at first."""
_START_POLL_S = 0.1


def _describe_withdrawn(champion: Champion) -> str:
    return (
        f"{champion.name} version {champion.version} is no longer served, because the registry has no champion of the "
        "task any more; give a version the alias again to serve it"
    )


class ModelPool:
    """Task → served model; a request keeps the one that it began with."""

    def __init__(self, runner: RunnerClient, store: Path, pages: PageDecoder | None = None) -> None:
        """`store` is the folder of bundles; `pages` decodes the pages of files, without it this process does."""
        self._runner, self._store, self._pages = runner, store, pages
        self._served: dict[str, ServedModel] = {}
        self._retry_at: dict[Champion, float] = {}
        """Refused champion → time of the event loop at which it may be tried again."""
        self._lost: dict[Champion, str] = {}
        """Served champion that the runner can no longer load → the reason."""
        self._absent_since: dict[Champion, float] = {}
        """Served champion that the runner does not have → time of the event loop since which it has not."""
        self._withdrawn = set[Champion]()
        """Served champion whose alias is gone; its task keeps its place, so that no other becomes the default."""
        self._refused: dict[str, Refused] = {}
        """Task → version that its signature rules out, and that never came here."""

    def __iter__(self) -> Iterator[ServedModel]:
        """Iterate over the served models that can be loaded; that of the default task comes first."""
        return iter([model for model in self._current() if model.champion not in self._lost])

    def _current(self) -> list[ServedModel]:
        return [model for model in self._served.values() if model.champion not in self._withdrawn]

    @property
    def store(self) -> Path:
        """Return the folder of bundles."""
        return self._store

    @property
    def is_ready(self) -> bool:
        """Return whether every served model can be loaded, and there is one."""
        return self.unready_reason is None

    @property
    def unready_reason(self) -> str | None:
        """Return why not, None if the service is ready."""
        reasons = [f"{lost.name} version {lost.version} cannot be loaded: {why}" for lost, why in self._lost.items()]
        if not self._current():
            gone = "; ".join(_describe_withdrawn(champion) for champion in self._withdrawn)
            reasons.append(f"no model is in service: {gone or 'the registry has no champion'}")
        return "; ".join(reasons) or None

    def get(self, task: str | None) -> ServedModel:
        """Return the model of `task`, None for the default task.

        Raises RequestError for a task that is not served, and for a model that the runner can no longer load.
        """
        if task is None and not self._served:
            raise RequestError(404, "unknown_task", f"no task is served: {self.unready_reason}")
        name = next(iter(self._served)) if task is None else task
        if name not in self._served:
            served = sorted(model.champion.task for model in self._current())
            raise RequestError(404, "unknown_task", f"task '{name}' is not served; served are {served}")
        model = self._served[name]
        if model.champion in self._withdrawn:
            served = sorted(model.champion.task for model in self._current())
            raise RequestError(
                404, "unknown_task", f"task '{name}' is not served: {_describe_withdrawn(model.champion)}; "
                f"served are {served}",
            )  # fmt: skip
        if reason := self._lost.get(model.champion):
            raise RequestError(
                503, "runner", f"{model.champion.name} version {model.champion.version} cannot be loaded: {reason}",
                headers={"Retry-After": f"{RETRY_S:.0f}"},
            )  # fmt: skip
        return model

    async def start(self) -> None:
        """Serve all bundles in the store; raises BundleError if one of them is refused."""
        # None, where all have lost their aliases since the service started: this process was started again.
        followed = model_store.follows_registry(self._store)
        list_all = model_store.read_champions if followed else model_store.list_champions
        for champion in list_all(self._store).values():
            if reason := await self._serve(champion):
                raise BundleError(f"{champion.name} version {champion.version} is not served: {reason}")
        self._publish()

    async def follow(self) -> None:
        """Replace models as new champions appear, until cancelled; a refused one leaves the previous one serving."""
        # The runner is to be awake again soon after a failure.
        worker = Worker("champions", CHECK_INTERVAL_S, metrics.publish_worker, longest_wait_s=CHECK_INTERVAL_S)
        await background.repeat(worker, self.check)

    async def check(self) -> None:
        """Follow the list of champions, and have the runner load what is served; one round of `follow`."""
        champions = await asyncio.to_thread(model_store.read_champions, self._store)
        self._withdraw(champions)
        self._note_refused(await asyncio.to_thread(model_store.read_refused, self._store))
        try:
            await self._runner.keep_alive()
            for champion in champions.values():
                await self._replace(champion)
            await self.check_served()
        finally:
            self._publish()

    def _withdraw(self, champions: Mapping[str, Champion]) -> None:
        """Stop to serve what has lost its alias; a folder without a registry may just be away for a while."""
        if not model_store.follows_registry(self._store):
            return
        for model in self._current():
            champion = model.champion
            if champion.task not in champions:
                log.error("%s", _describe_withdrawn(champion))
                self._withdrawn.add(champion)
                self._lost.pop(champion, None)
                self._absent_since.pop(champion, None)
                self._retry_at.pop(champion, None)

    def _note_refused(self, refused: dict[str, Refused]) -> None:
        """Say once of each version that its signature rules out that it is, and publish that while it lasts."""
        for task, found in refused.items():
            if self._refused.get(task) != found:
                stays = self._served.get(task)
                effect = f"version {stays.champion.version} stays in service" if stays else "the task is not served"
                log.error("%s version %s is refused: %s; %s", model_name(task), found.version, found.reason, effect)
                metrics.SWAPS.labels(task, "refused").inc()
        for task in refused.keys() | self._refused.keys():
            metrics.SIGNATURE_REFUSED.labels(task).set(task in refused)
        self._refused = refused

    def _publish(self) -> None:
        answering = {model.champion.task for model in self}
        for task in self._served:
            metrics.TASK_SERVED.labels(task).set(task in answering)

    async def _replace(self, champion: Champion) -> None:
        """Serve `champion` if it is new and was not refused recently."""
        previous, now = self._served.get(champion.task), asyncio.get_running_loop().time()
        if previous and previous.champion == champion:
            if champion in self._withdrawn:
                self._withdrawn.discard(champion)
                log.info("%s version %s has its alias again, and is served", champion.name, champion.version)
            return
        if now < self._retry_at.get(champion, 0):
            return
        reason = await self._serve(champion)
        if reason is None:
            metrics.SWAPS.labels(champion.task, "serving").inc()
            return
        if champion not in self._retry_at:
            metrics.SWAPS.labels(champion.task, "refused").inc()
            stays = previous.champion if previous and previous.champion not in self._withdrawn else None
            effect = f"version {stays.version} stays in service" if stays else "the task is not served"
            log.error("%s version %s is refused: %s; %s", champion.name, champion.version, reason, effect)
        self._retry_at[champion] = now + RETRY_S

    async def check_served(self) -> None:
        """Have the runner, which may have been started again, load what is served; note what it cannot load."""
        for model in self._current():
            champion, now = model.champion, asyncio.get_running_loop().time()
            if champion in self._lost and now < self._retry_at.get(champion, 0):
                continue
            readiness = await self._runner.prepare(task=champion.task, version=champion.version)
            if not readiness["error"]:
                self._absent_since.pop(champion, None)
                if self._lost.pop(champion, None):
                    log.info("%s version %s can be loaded again", champion.name, champion.version)
                continue
            if readiness.get("absent") and now - self._absent_since.setdefault(champion, now) < ABSENT_S:
                continue
            if self._lost.get(champion) != readiness["error"]:
                log.error("%s version %s is lost: %s", champion.name, champion.version, readiness["error"])
            self._lost[champion], self._retry_at[champion] = readiness["error"], now + RETRY_S

    async def _serve(self, champion: Champion) -> str | None:
        """Have the runner load `champion` and serve it from now on, or return the reason why not."""
        try:
            spec = await asyncio.to_thread(model_store.read_spec, champion)
            readiness = await self._prepare(champion)
        except BundleError as error:
            return str(error)
        if readiness["error"]:
            return readiness["error"]
        batcher = Batcher(self._caller(champion), champion.task)
        # A version that is replaced is no longer asked for.
        self._lost = {lost: reason for lost, reason in self._lost.items() if lost.task != champion.task}
        self._absent_since = {lost: since for lost, since in self._absent_since.items() if lost.task != champion.task}
        self._withdrawn = {gone for gone in self._withdrawn if gone.task != champion.task}
        # Assigning to an existing key of the dict keeps its place.
        self._served[champion.task] = ServedModel(
            champion, spec, readiness["engine"], CellDecoder(spec, self._pages), batcher
        )
        log.info("%s version %s is served by %s", champion.name, champion.version, readiness["engine"])
        return None

    async def _prepare(self, champion: Champion) -> Readiness:
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while True:
            try:
                return await self._runner.prepare(task=champion.task, version=champion.version)
            # BentoML's client passes on the exceptions of its parts while the runner is still starting.
            except Exception as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise BundleError(f"the runner does not answer ({error})") from error
                await asyncio.sleep(_START_POLL_S)

    def _caller(self, champion: Champion) -> Callable[[Pixels], Awaitable[npt.NDArray[np.float32]]]:
        async def call(pixels: Pixels) -> npt.NDArray[np.float32]:
            # Only where it is traced, so that a runner of before need not know it.
            traced = {} if (caller := tracing.traceparent()) is None else {"traceparent": caller}
            packed = await self._runner.predict(task=champion.task, version=champion.version, pixels=pixels, **traced)
            return np.asarray(packed, np.float32)

        return call

    async def explain(self, model: ServedModel, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Return the (K, h, w) activation map of one cell, (H, W) on the canvas."""
        task, version = model.champion.task, model.champion.version
        maps = await self._runner.explain(task=task, version=version, pixels=pixels[None])
        return np.asarray(maps[0], np.float32)
