"""The models that a gateway serves, and how a new champion takes the place of the old one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fatescope.errors import BundleError
from fatescope.inference.bundle import Spec
from service.inference import metrics
from service.inference.batcher import Batcher
from service.inference.decoding import Reader
from service.inference.errors import RequestError
from service.registry import model_store
from service.registry.model_store import Champion, Readiness

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

LOOK_S = 1.0
"""How often the listing of bundles is looked at; the registry itself is asked by `service.registry.registry_sync`."""
AGAIN_S = 60.0
"""After how long one that was refused is tried again: its runner may not have had it yet."""
PATIENCE_S = 60.0
"""How long a runner may take to answer at the start."""

Array = npt.NDArray[np.generic]


class Calls(Protocol):
    """What a gateway asks of runners; BentoML's proxy of `service.runner.Runner` has it."""

    prepare: Callable[..., Awaitable[Readiness]]
    predict: Callable[..., Awaitable[Array]]
    explain: Callable[..., Awaitable[Array]]
    stay: Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Model:
    """A version that is ready to answer."""

    champion: Champion
    spec: Spec
    engine: str
    """What runs it."""
    reader: Reader
    batcher: Batcher


class Models:
    """Task → model; a request keeps the one that it began with."""

    def __init__(self, runner: Calls) -> None:
        self._runner = runner
        self._served: dict[str, Model] = {}
        self._refused: dict[Champion, float] = {}
        """When one that was refused may be tried again."""

    def __iter__(self) -> Iterator[Model]:
        """Go through the models, that of the default task first."""
        return iter(list(self._served.values()))

    def get(self, task: str | None) -> Model:
        """Return the model of `task`, or of the default one; raises RequestError for one that is not served."""
        name = next(iter(self._served)) if task is None else task
        if name not in self._served:
            raise RequestError(404, "unknown_task", f"task '{name}' is not served; served are {sorted(self._served)}")
        return self._served[name]

    async def start(self) -> None:
        """Serve every bundle there is; raises BundleError where one is refused: not the others as if all were well."""
        for champion in model_store.listed(model_store.folder()).values():
            if error := await self._serve(champion):
                raise BundleError(f"{champion.name} version {champion.version} is not served: {error}")

    async def follow(self) -> None:
        """Put new champions in place as they come, for ever; one that is refused leaves the old one serving."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._runner.stay()
                listed = await asyncio.to_thread(model_store.listed, model_store.folder())
                for champion in listed.values():
                    await self._replace(champion)
            # Whatever it is, those that serve go on, and so does the looking.
            except Exception as error:  # noqa: BLE001  see above
                log.warning("new champions cannot be looked for: %s", error)

    async def _replace(self, champion: Champion) -> None:
        """Serve `champion` if it is new, and was not refused just now."""
        before, now = self._served.get(champion.task), asyncio.get_running_loop().time()
        if (before and before.champion == champion) or now < self._refused.get(champion, 0):
            return
        refusal = await self._serve(champion)
        if refusal is None:
            metrics.SWAPS.labels(champion.task, "serving").inc()
            return
        if champion not in self._refused:
            metrics.SWAPS.labels(champion.task, "refused").inc()
            still = f"version {before.champion.version} goes on serving" if before else "the task is not served"
            log.error("%s version %s is refused: %s; %s", champion.name, champion.version, refusal, still)
        self._refused[champion] = now + AGAIN_S

    async def _serve(self, champion: Champion) -> str | None:
        """Have the runner load `champion` and serve it from now on, or return why not."""
        try:
            spec = await asyncio.to_thread(model_store.read_spec, champion)
            ready = await self._prepare(champion)
        except BundleError as error:
            return str(error)
        if ready["error"]:
            return ready["error"]
        # A place in the dict that exists already keeps its order.
        self._served[champion.task] = Model(
            champion, spec, ready["engine"], Reader(spec), Batcher(self._caller(champion), champion.task)
        )
        log.info("%s version %s is served by %s", champion.name, champion.version, ready["engine"])
        return None

    async def _prepare(self, champion: Champion) -> Readiness:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            try:
                return await self._runner.prepare(task=champion.task, version=champion.version)
            # The client of BentoML raises what its parts raise while the runner is still starting.
            except Exception as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise BundleError(f"the runner does not answer ({error})") from error
                await asyncio.sleep(0.1)

    def _caller(self, champion: Champion) -> Callable[[npt.NDArray[np.uint16]], Awaitable[npt.NDArray[np.float32]]]:
        async def call(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
            found = await self._runner.predict(task=champion.task, version=champion.version, pixels=pixels)
            return np.asarray(found, np.float32)

        return call

    async def explain(self, model: Model, pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
        """Return the (K, h, w) activation map of one cell (H, W) on the canvas."""
        task, version = model.champion.task, model.champion.version
        found = await self._runner.explain(task=task, version=version, pixels=pixels[None])
        return np.asarray(found[0], np.float32)
