"""Record work on a GPU as a CUDA graph, and leave PyTorch usable where that fails."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")
Pool = Any
"""A handle of memory, whose type PyTorch does not export."""


class NotRecordedError(RuntimeError):
    """Work that cannot be recorded; the message is that of the first error, of which the others are consequences."""


def record(run: Callable[[], T], pool: Pool, stream: torch.cuda.Stream | None = None) -> tuple[torch.cuda.CUDAGraph, T]:
    """Record what `run` sends to the GPU, without running it; return the graph and what `run` returned.

    `pool` is a handle of `torch.cuda.graph_pool_handle`, for the memory of the results; graphs of one pool must not
    run at the same time. `stream` is what is recorded, by default one that all recordings share. Other threads may use
    the GPU meanwhile. Raises NotRecordedError; random numbers are then drawn as if nothing had been tried.
    """
    device, before = torch.cuda.current_device(), torch.cuda.current_stream()
    generator = torch.cuda.default_generators[device]
    state = generator.clone_state()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
            result = run()
    except RuntimeError as error:
        # Where CUDA refuses an operation, PyTorch raises an error before it has ended the recording: the stream stays
        # in use, its generator goes on counting for the graph, and memory is freed when the recording ends, or never.
        torch.cuda.set_stream(before)
        generator.graphsafe_set_state(state)
        _end_allocation(device, pool)
        raise NotRecordedError(str(_first(error))) from error
    return graph, result


def _end_allocation(device: int, pool: Pool) -> None:
    """Have memory come from where it came from before; PyTorch has no public name for it."""
    end = getattr(torch._C, "_cuda_endAllocateToPool", None)  # noqa: SLF001  see above
    if end is not None:
        end(device, pool)


def _first(error: BaseException) -> BaseException:
    while error.__context__ is not None:
        error = error.__context__
    return error
