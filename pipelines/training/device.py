"""The device that trains, the precision that it computes in, and the memory that it has left."""

from collections import deque
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fatescope.networks.precision import full_precision

AHEAD = 8
"""Steps by which the CPU may run ahead of a GPU."""


def select_device() -> torch.device:
    """Return a GPU where PyTorch finds one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(device: torch.device) -> torch.dtype:
    """Return the lowest precision that the processor computes in natively; emulated, it would be slower than float32.

    That is bfloat16, else float16 on a GPU, whose gradients then need `gradient_scaler`, and float32 on a CPU.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    # What PyTorch uses, which ATEN_CPU_CAPABILITY may restrict, and what the processor has.
    used = torch.backends.cpu.get_cpu_capability() == "AVX512"
    native = used and torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if native else torch.float32


def describe_device() -> tuple[str, str]:
    """Return the name of the device that trains, and the precision that it computes in."""
    device = select_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name, str(precision(device))


def autocast(device: torch.device) -> torch.autocast:
    """Compute in the `precision` of the device."""
    dtype = precision(device)
    lower = dtype != torch.float32
    return torch.autocast(device.type, dtype if lower else torch.bfloat16, enabled=lower)


def gradient_scaler(device: torch.device) -> torch.amp.GradScaler:
    """Return what scales the loss so that small gradients do not vanish in float16; elsewhere it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision(device) == torch.float16)


def exact(device: torch.device) -> AbstractContextManager[torch.autocast | None]:
    """Compute what is published: on a GPU in float32, so that the card does not change it; on a CPU as `autocast`."""
    return full_precision(device) if device.type == "cuda" else autocast(device)


def free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that this process can still allocate.

    The driver counts what other processes use, and as used also what PyTorch has freed and keeps for its next tensors.
    """
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def upload(values: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """Copy a small array to the device, without waiting for what a GPU has still to do."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


class InFlight:
    """Keeps the CPU from running ahead of a GPU by more than a few steps, so that a clock shows what the GPU does."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._ends = device, deque[torch.cuda.Event]()

    def end_step(self) -> None:
        """Wait until all steps but the last AHEAD have ended; on a CPU they have."""
        if self._device.type != "cuda":
            return
        self._ends.append(torch.cuda.Event())  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._ends[-1].record(torch.cuda.current_stream(self._device))
        if len(self._ends) > AHEAD:
            self._ends.popleft().synchronize()
