"""Several processes that fit one network together, as `torchrun` starts them; alone, everything here is a no-op.

    torchrun --nproc-per-node 2 -m pipelines.stages.train params.yaml binary …

Each process takes its share of every batch; the leader alone validates, tracks and writes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of `torchrun` while the block lasts."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return which of them this one is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def leads() -> bool:
    """Tell whether this process is the one that validates, tracks and writes."""
    return rank() == 0


def agree(value: T) -> T:
    """Return the leader's `value` in every process."""
    if size() == 1:
        return value
    told = [value]
    distributed.broadcast_object_list(told, src=0)
    return told[0]


def together(module: nn.Module) -> nn.Module:
    """Return `module` such that gradients are averaged over all processes."""
    if size() == 1:
        return module
    if next(module.parameters()).is_cuda:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # torch leaves it so
    wrapped: nn.Module = nn.parallel.DistributedDataParallel(module)
    return wrapped


def share_state(module: nn.Module) -> None:
    """Give every process the leader's weights and buffers."""
    if size() > 1:
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, src=0)
