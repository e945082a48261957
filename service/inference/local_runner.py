"""The runner as a part of the gateway, where no GPU is to be shared: its calls cross no process and no connection."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from service.inference.loaded_models import LoadedModels, Pixels
from service.inference.runner_output import Floats, Readiness

THREADS = 4
"""Calls at a time: a new version is loaded while the old one answers."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class LocalRunner:
    """Answers the calls of a RunnerClient in threads of this process."""

    def __init__(self, models: LoadedModels) -> None:
        self._models = models
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="runner")

    async def prepare(self, task: str, version: str) -> Readiness:
        """Load, check and warm up a version; the reply has the reason if that fails."""
        return await self._call(self._models.prepare, task, version)

    async def predict(self, task: str, version: str, pixels: Pixels, traceparent: str | None = None) -> Floats:
        """Return the packed RunnerOutput, (B, K + 1 + C), for (B, H, W) pixels; `traceparent` is a traced caller."""
        return await self._call(self._models.predict, task, version, pixels, traceparent)

    async def explain(self, task: str, version: str, pixels: Pixels) -> Floats:
        """Return the (B, K, h, w) activation maps of (B, H, W) pixels."""
        return await self._call(self._models.explain, task, version, pixels)

    async def keep_alive(self) -> None:
        """Do nothing: it lives as long as the gateway."""

    async def _call(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **named))
