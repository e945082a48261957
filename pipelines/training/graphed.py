"""Forward and backward pass as one CUDA graph.

A step of a small network on small images is hundreds of short kernels, and a GPU waits for each to be launched. A graph
is recorded once and then launched as a whole (the optimizer's step stays outside of it: it is a few kernels, and its
rates change from step to step). It needs no compiler on the machine, and does not compile anew for each fit, as
`torch.compile` does.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from fatescope.networks.recording import record

log = logging.getLogger(__name__)

Pass = Callable[..., Tensor]
"""Computes the gradients for pixels, targets and what else is known of the cells, and returns the loss."""
WARM_UP = 3
"""Steps before recording, in which libraries choose their kernels and allocate."""


class GraphedPass:
    """Runs a pass, and after WARM_UP batches replays it, as long as these have one shape."""

    def __init__(self, run: Pass, record: Callable[..., Pass] | None = None) -> None:
        self._run, self._record = run, record or record_graph
        self._left, self._gives_up = WARM_UP, False
        self._shape: torch.Size | None = None
        self._replay: Pass | None = None
        self._side: torch.cuda.Stream | None = None

    def __call__(self, pixels: Tensor, *facts: Tensor) -> Tensor:
        """Compute the gradients for a batch, and return its loss."""
        if self._gives_up:
            return self._run(pixels, *facts)
        if pixels.shape != (self._shape or pixels.shape):
            # For good: gradients would then be in other memory than the graph writes to.
            return self._give_up(f"a batch has the shape {tuple(pixels.shape)}", pixels, *facts)
        self._shape = pixels.shape
        if self._left:
            self._left -= 1
            return self._warm_up(pixels, *facts)
        try:
            self._replay = self._replay or self._record(self._run, pixels, *facts)
        # Out of memory, or an operation that cannot be recorded: there are as many errors as drivers.
        except RuntimeError as error:
            return self._give_up(_first_line(error), pixels, *facts)
        return self._replay(pixels, *facts)

    def _give_up(self, reason: str, *batch: Tensor) -> Tensor:
        log.warning("steps are launched kernel by kernel, because they cannot be recorded: %s", reason)
        self._gives_up, self._replay = True, None
        return self._run(*batch)

    def _warm_up(self, pixels: Tensor, *facts: Tensor) -> Tensor:
        """Run the pass on a stream of its own, as recording does."""
        if not pixels.is_cuda:
            return self._run(pixels, *facts)
        current = torch.cuda.current_stream(pixels.device)
        side = self._side = self._side or torch.cuda.Stream(pixels.device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        side.wait_stream(current)
        with torch.cuda.stream(side):
            loss = self._run(pixels, *facts)
        current.wait_stream(side)
        return loss


def record_graph(run: Pass, *batch: Tensor) -> Pass:
    """Record `run` for batches of this shape, without running it, and return what replays it."""
    inputs = tuple(tensor.clone() for tensor in batch)
    graph, loss = record(lambda: run(*inputs), torch.cuda.graph_pool_handle())

    def replay(*batch: Tensor) -> Tensor:
        for recorded, given in zip(inputs, batch, strict=True):
            recorded.copy_(given, non_blocking=True)
        graph.replay()
        # The next replay writes to the same memory.
        return loss.clone()

    return replay


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
