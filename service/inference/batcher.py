"""Bring the cells of many requests together into batches for the runner.

A batch is what has come while the one before was on its way: alone, a cell waits for nobody; under load batches grow
by themselves. Files are decoded before, so that a bad one never spoils a batch, and several cells share the cost of one
call, which is most of the cost of a single cell.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.inference import metrics

Pixels = npt.NDArray[np.uint16]
Rows = npt.NDArray[np.float32]
Call = Callable[[Pixels], Awaitable[Rows]]

LARGEST = 256
"""Cells in a call."""
FLYING = 2
"""Calls on their way at a time: while one is computed, the next is sent."""
WORTH = 32
"""Cells that are worth a second call: fewer wait until the first has landed, and more may have come by then."""


@dataclass(frozen=True)
class _Waiting:
    pixels: Pixels
    rows: asyncio.Future[Rows]


class Batcher:
    """Batches for one version of one model; lives in one event loop."""

    def __init__(self, call: Call, task: str) -> None:
        """`call` sends (B, H, W) pixels and returns (B, …) rows, in the same order."""
        self._call, self._task = call, task
        self._waiting: deque[_Waiting] = deque()
        self._cells = 0
        self._flying: set[asyncio.Task[None]] = set()

    async def predict(self, pixels: Pixels) -> Rows:
        """Return the (n, …) rows of (n, H, W) pixels, n up to LARGEST; raises what the call raises."""
        assert len(pixels) <= LARGEST, pixels.shape
        mine = _Waiting(pixels, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        self._cells += len(pixels)
        metrics.WAITING.labels(self._task).inc(len(pixels))
        self._fly()
        return await mine.rows

    def _fly(self) -> None:
        while self._waiting and self._may_fly():
            chosen, size = [], 0
            while self._waiting and size + len(self._waiting[0].pixels) <= LARGEST:
                chosen.append(self._waiting.popleft())
                size += len(chosen[-1].pixels)
            self._cells -= size
            metrics.WAITING.labels(self._task).dec(size)
            metrics.BATCH.labels(self._task).observe(size)
            flight = asyncio.create_task(self._send(chosen))
            self._flying.add(flight)
            flight.add_done_callback(self._landed)

    def _may_fly(self) -> bool:
        return not self._flying or (len(self._flying) < FLYING and self._cells >= WORTH)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flying.discard(flight)
        self._fly()

    async def _send(self, chosen: list[_Waiting]) -> None:
        try:
            rows = await self._call(np.concatenate([each.pixels for each in chosen]))
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait must learn of it
            for each in chosen:
                if not each.rows.done():
                    each.rows.set_exception(error)
            return
        start = 0
        for each in chosen:
            # A client that has left has cancelled its future.
            if not each.rows.done():
                each.rows.set_result(rows[start : start + len(each.pixels)])
            start += len(each.pixels)
