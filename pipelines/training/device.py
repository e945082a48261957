"""The device that trains, and the precision that it computes in."""

import torch


def select_device() -> torch.device:
    """Return a GPU where PyTorch finds one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where the processor supports it natively; emulated, it would be slower than float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # What PyTorch uses, which ATEN_CPU_CAPABILITY may restrict, and what the processor has.
        used = torch.backends.cpu.get_cpu_capability() == "AVX512"
        native = used and torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.autocast(device.type, torch.bfloat16, enabled=native)
