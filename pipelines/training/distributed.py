"""Data-parallel training in several processes, as `torchrun` starts them; in one process, everything here is a no-op.

    torchrun --nproc-per-node 2 -m pipelines.stages.train --task binary …

Each process trains on its share of every batch; the primary process alone validates, tracks and writes files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed, nn

from pipelines.settings import PipelineSettings

T = TypeVar("T")


@contextmanager
def process_group(settings: PipelineSettings) -> Iterator[None]:
    """Join the other processes of `torchrun`, where there are any, while the block runs."""
    if settings.world_size == 1:
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(settings.local_rank)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_primary() -> bool:
    """Return whether this process is the one that validates, tracks and writes files."""
    return rank() == 0


def broadcast_object(value: T) -> T:
    """Return the primary process's `value` in every process."""
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def wrap_ddp(module: nn.Module) -> nn.Module:
    """Return `module` so that gradients are averaged over all processes."""
    if world_size() == 1:
        return module
    if next(module.parameters()).is_cuda:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # torch leaves it so
    wrapped: nn.Module = nn.parallel.DistributedDataParallel(module)
    return wrapped


def broadcast_state(module: nn.Module) -> None:
    """Give every process the weights and buffers of the primary process."""
    if world_size() > 1:
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, src=0)
