"""The precision that training computes in; the processors are made up."""

import pytest
import torch

from pipelines.training.device import autocast


@pytest.fixture
def chosen(monkeypatch):
    """Return what automatic casting is asked for on a device; PyTorch itself warns where it finds no GPU."""
    monkeypatch.setattr(torch, "autocast", lambda device, dtype, *, enabled: (device, dtype, enabled))
    return lambda device: autocast(torch.device(device))


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_computes_in_bfloat16_where_it_need_not_emulate_it(chosen, monkeypatch, native):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda *, including_emulation=True: including_emulation or native
    )
    assert chosen("cuda") == ("cuda", torch.bfloat16, native)


@pytest.mark.parametrize(
    ("used", "has", "native"),
    [
        ("AVX512", {"avx512_bf16": True}, True),
        ("AVX512", {"avx512_bf16": False}, False),
        ("AVX512", {}, False),
        ("AVX2", {"avx512_bf16": True}, False),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_has_it_and_pytorch_uses_it(chosen, monkeypatch, used, has, native):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: used)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert chosen("cpu") == ("cpu", torch.bfloat16, native)
