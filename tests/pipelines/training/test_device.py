"""The precision that training computes in; the processors are made up."""

import pytest
import torch

from pipelines.training.device import AHEAD, InFlight, autocast, exact, gradient_scaler


@pytest.fixture
def chosen(monkeypatch):
    """Return what automatic casting is asked for on a device; PyTorch itself warns where it finds no GPU."""
    monkeypatch.setattr(torch, "autocast", lambda device, dtype, *, enabled: (device, dtype, enabled))
    return lambda device: autocast(torch.device(device))


@pytest.fixture
def make_gpu(monkeypatch):
    """Return what puts in a GPU that computes in bfloat16, or only emulates it."""
    return lambda native: monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda *, including_emulation=True: including_emulation or native
    )


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_computes_in_bfloat16_where_it_need_not_emulate_it_else_in_float16(chosen, make_gpu, native, dtype):
    make_gpu(native)
    assert chosen("cuda") == ("cuda", dtype, True)


@pytest.mark.parametrize(("native", "scales"), [(True, False), (False, True)])
def test_gradients_are_scaled_in_float16_alone(make_gpu, monkeypatch, native, scales):
    make_gpu(native)
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, *, enabled: (device, enabled))
    assert gradient_scaler(torch.device("cuda")) == ("cuda", scales)
    assert gradient_scaler(torch.device("cpu")) == ("cpu", False)


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


def test_what_is_published_is_computed_on_a_gpu_in_float32_without_tf32(monkeypatch):
    entered = []

    class Autocast:
        def __init__(self, device, *, enabled):
            entered.append((device, enabled))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    monkeypatch.setattr(torch, "autocast", Autocast)
    before = [backend.allow_tf32 for backend in backends]
    with exact(torch.device("cuda")):
        assert [backend.allow_tf32 for backend in backends] == [False, False]
    with pytest.raises(ValueError, match="inside"), exact(torch.device("cuda")):
        raise ValueError("inside")
    assert [backend.allow_tf32 for backend in backends] == before
    assert entered == [("cuda", False)] * 2


def test_the_cpu_runs_ahead_of_a_gpu_by_a_few_steps(monkeypatch):
    waited = []

    class Event:
        def record(self, stream):
            self.stream = stream

        def synchronize(self):
            waited.append(self.stream)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    streams = iter(range(AHEAD + 3))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: next(streams))
    in_flight = InFlight(torch.device("cuda"))
    for _ in range(AHEAD + 3):
        in_flight.end_step()
    assert waited == [0, 1, 2]
