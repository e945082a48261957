"""Combine the cells of many requests into batches for the runner.

A batch holds the cells that arrived while the previous call was in flight: a lone cell waits for nothing, and batches
grow with the load. Files are decoded before they get here, so that a bad one never fails a batch, and several cells
share the overhead of one call, which is most of the cost of a single cell.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fatescope import plural
from fatescope.inference.buckets import BUCKETS
from service import tracing
from service.inference import metrics

Pixels = npt.NDArray[np.uint16]
Rows = npt.NDArray[np.float32]
Call = Callable[[Pixels], Awaitable[Rows]]

MAX_BATCH = BUCKETS[-1]
"""Cells in one call."""
MAX_IN_FLIGHT = 2
"""Calls in flight at a time: while the runner computes one, the next is sent."""
MIN_SECOND_BATCH = 32
"""Cells that justify a second call; fewer wait until the first call returns, and more may have arrived by then."""


@dataclass(frozen=True, eq=False)
class _Pending:
    pixels: Pixels
    rows: asyncio.Future[Rows]
    trace: tracing.Queued | None


class Batcher:
    """Batches for one version of one model; belongs to one event loop."""

    def __init__(self, call: Call, task: str) -> None:
        """`call` sends (B, H, W) pixels and returns (B, …) rows in the same order."""
        self._call, self._task = call, task
        self._pending: deque[_Pending] = deque()
        self._pending_cells = 0
        self._in_flight: set[asyncio.Task[None]] = set()

    async def predict(self, pixels: Pixels) -> Rows:
        """Return the (n, …) rows of (n, H, W) pixels, n up to MAX_BATCH; raises what the call raises."""
        assert len(pixels) <= MAX_BATCH, pixels.shape
        span = tracing.current()
        trace = None if span is None else tracing.Queued(span, len(pixels))
        own = _Pending(pixels, asyncio.get_running_loop().create_future(), trace)
        self._pending.append(own)
        self._pending_cells += len(pixels)
        metrics.WAITING.labels(self._task).inc(len(pixels))
        self._dispatch()
        try:
            return await own.rows
        except asyncio.CancelledError:
            self._forget(own)
            raise
        finally:
            if trace is not None:
                trace.end(sys.exc_info()[0])

    def _forget(self, request: _Pending) -> None:
        """Drop a request whose client has gone, if it has not been sent yet."""
        if request in self._pending:
            self._pending.remove(request)
            self._pending_cells -= len(request.pixels)
            metrics.WAITING.labels(self._task).dec(len(request.pixels))

    def _dispatch(self) -> None:
        """Start as many calls as are worth it now."""
        while self._pending and self._may_call():
            batch, size = [], 0
            while self._pending and size + len(self._pending[0].pixels) <= MAX_BATCH:
                batch.append(self._pending.popleft())
                size += len(batch[-1].pixels)
            self._pending_cells -= size
            metrics.WAITING.labels(self._task).dec(size)
            metrics.BATCH.labels(self._task).observe(size)
            spans = [request.trace.sent(size) for request in batch if request.trace is not None]
            # Of requests that share a call, one has the span of the network.
            call = asyncio.create_task(self._send(batch, spans[0] if spans else None))
            self._in_flight.add(call)
            call.add_done_callback(self._finish)

    def _may_call(self) -> bool:
        if not self._in_flight:
            return True
        return len(self._in_flight) < MAX_IN_FLIGHT and self._pending_cells >= MIN_SECOND_BATCH

    def _finish(self, call: asyncio.Task[None]) -> None:
        self._in_flight.discard(call)
        self._dispatch()

    async def _send(self, batch: list[_Pending], span: tracing.Span | None) -> None:
        # Otherwise it would be that of the request that happened to start this call.
        tracing.make_current(span)
        try:
            pixels = np.concatenate([request.pixels for request in batch])
            rows = _checked(await self._call(pixels), len(pixels))
        except Exception as error:  # noqa: BLE001  every request in the batch must receive it, whatever it is
            for request in batch:
                if not request.rows.done():
                    request.rows.set_exception(error)
            return
        start = 0
        for request in batch:
            # A client that has disconnected has cancelled its future.
            if not request.rows.done():
                request.rows.set_result(rows[start : start + len(request.pixels)])
            start += len(request.pixels)


def _checked(rows: npt.NDArray[np.float32], cells: int) -> npt.NDArray[np.float32]:
    if np.shape(rows)[:1] != (cells,):
        raise ValueError(f"the runner returned rows of shape {np.shape(rows)} for {plural.count(cells, 'cell')}")
    return rows
