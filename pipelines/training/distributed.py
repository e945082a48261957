"""Data-parallel training in several processes, as `torchrun` starts them; in one process, everything here is a no-op.

    torchrun --nproc-per-node 2 -m pipelines.stages.train --task binary …

Each process trains on its share of every batch; the primary process alone validates, tracks and writes files, and all
decisions are its own: when to stop, which epoch is best, how many epochs fit into the budget.

There are two groups of the same processes. One exchanges gradients, on GPUs through NCCL, whose operations fail after
COLLECTIVE. In the other (Gloo) the processes hand on numbers and wait for the primary one while it validates or writes,
up to WAITING: nothing waits on a GPU for a process that is not there yet.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed import ProcessGroup

from fatescope import plural
from fatescope.errors import FatescopeError

T = TypeVar("T")

COLLECTIVE = timedelta(minutes=10)
"""In which all processes must take part in an exchange of gradients or weights."""
WAITING = timedelta(hours=2)
"""In which the primary process must have validated, tracked or written what the others wait for."""

_gradients: ProcessGroup | None = None


class Launched(Protocol):
    """What `torchrun` tells a process (`pipelines.settings.PipelineSettings`)."""

    @property
    def world_size(self) -> int:
        """The number of processes."""

    @property
    def local_rank(self) -> int:
        """The number of the process on its machine, which is that of its GPU."""


@contextmanager
def process_group(settings: Launched) -> Iterator[None]:
    """Join the other processes of `torchrun`, where there are any, while the block runs.

    Raises FatescopeError, in all of them, where some have a GPU and others have none.
    """
    global _gradients  # noqa: PLW0603  as the groups of torch.distributed themselves
    if settings.world_size == 1:
        yield
        return
    distributed.init_process_group("gloo", timeout=WAITING)
    try:
        on_gpu = _have_gpu(settings.local_rank)
        if on_gpu:
            torch.cuda.set_device(settings.local_rank)
        group = distributed.new_group(backend="nccl" if on_gpu else "gloo", timeout=COLLECTIVE)
        assert isinstance(group, ProcessGroup), "every process is in it"
        _gradients = group
        yield
        # Whoever left earlier would take a group away that the others still use.
        wait_for_primary()
    finally:
        _gradients = None
        distributed.destroy_process_group()


def _have_gpu(local_rank: int) -> bool:
    """Return whether every process has a GPU of its own; raise FatescopeError where only some have."""
    own = torch.cuda.is_available() and local_rank < torch.cuda.device_count()
    without = [number for number, has in enumerate(_gather(own)) if not has]
    if without and len(without) < world_size():
        processes, have = plural.agree(len(without), "process", "processes"), plural.agree(len(without), "has", "have")
        raise FatescopeError(
            f"torchrun: the {processes} {without} of {world_size()} {have} no GPU; start as many on each machine as it "
            "has GPUs, or set CUDA_VISIBLE_DEVICES=-1 to train on the CPUs"
        )
    return not without


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_primary() -> bool:
    """Return whether this process is the one that validates, tracks, writes files, and decides."""
    return rank() == 0


def broadcast_object(value: T) -> T:
    """Return the primary process's `value` in every process; the others wait for it."""
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def broadcast_number(value: int) -> int:
    """Return the primary process's `value` in every process, faster than `broadcast_object`."""
    if world_size() == 1:
        return value
    number = torch.tensor(value)
    distributed.broadcast(number, src=0)
    return int(number)


def smallest(value: int) -> int:
    """Return the smallest `value` of all processes."""
    return min(_gather(value))


def mean(values: Tensor) -> Tensor:
    """Return the mean of the `values` of all processes, which lie on the devices that train."""
    if world_size() == 1:
        return values
    total = values.clone()
    distributed.all_reduce(total, group=_gradients)
    return total / world_size()


def wait_for_primary() -> None:
    """Wait until all processes are here, such as after the primary one has written a file.

    Raises RuntimeError, which names who is missing, after WAITING.
    """
    if world_size() > 1:
        distributed.monitored_barrier(timeout=WAITING)


def wrap_ddp(module: nn.Module) -> nn.Module:
    """Return `module` so that gradients are averaged over all processes."""
    if world_size() == 1:
        return module
    # Making it exchanges weights, for which the primary process may be late.
    wait_for_primary()
    if next(module.parameters()).is_cuda:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module, _gradients)  # type: ignore[no-untyped-call]  # torch leaves it so
    wrapped: nn.Module = nn.parallel.DistributedDataParallel(module, process_group=_gradients)
    return wrapped


def broadcast_state(module: nn.Module) -> None:
    """Give every process the weights and buffers of the primary process."""
    if world_size() > 1:
        wait_for_primary()
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, src=0, group=_gradients)


def _gather(value: T) -> list[T]:
    """Return the `value` of each process, by its rank."""
    if world_size() == 1:
        return [value]
    values: list[T] = [value] * world_size()
    distributed.all_gather_object(values, value)
    return values
