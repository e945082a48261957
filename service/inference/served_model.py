"""A version that answers requests, and the runner that it asks."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fatescope.inference.bundle import Spec
from service.inference.batcher import Batcher
from service.inference.decoding import CellDecoder
from service.inference.results import ModelDict
from service.inference.runner_output import Readiness, RunnerOutput
from service.registry.model_store import Champion

Pixels = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float32]


class RunnerClient(Protocol):
    """The calls of a gateway to the runner: a LocalRunner, or BentoML's proxy of `service.runner.Runner`."""

    async def prepare(self, task: str, version: str) -> Readiness:
        """Load, check and warm up a version; the reply has the reason if that fails."""

    async def predict(self, task: str, version: str, pixels: Pixels, traceparent: str | None = None) -> Floats:
        """Return the packed RunnerOutput, (B, K + 1 + C), for (B, H, W) pixels; `traceparent` is a traced caller."""

    async def explain(self, task: str, version: str, pixels: Pixels) -> Floats:
        """Return the (B, K, h, w) activation maps of (B, H, W) pixels."""

    async def keep_alive(self) -> None:
        """Note that a gateway is running."""


@dataclass(frozen=True)
class ServedModel:
    """A version that is ready to answer requests."""

    champion: Champion
    spec: Spec
    engine: str
    """Name of the engine that runs it."""
    decoder: CellDecoder
    batcher: Batcher

    @property
    def identity(self) -> ModelDict:
        """Return the name and the version, as responses have them."""
        return {"name": self.champion.name, "version": self.champion.version}

    async def predict(self, pixels: Pixels) -> RunnerOutput:
        """Return the output of the runner for (n, H, W) pixels; see Batcher.predict."""
        return RunnerOutput.unpack(await self.batcher.predict(pixels), len(self.spec.classes))
