"""PyTorch's engine; what it does on a GPU is done on the CPU, by a device that stands for one."""

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

from fatescope.networks import backbones, network
from service.inference import engines, torch_engine
from service.inference.torch_engine import Gpu, Torch, TorchOnGpu, reduce_precision
from tests.support import fake_graphs
from tests.support.bundles import CANVAS, COMMITTED
from tests.support.images import draw_cell
from tests.support.predictions import assert_agree

PIXELS = np.stack([draw_cell(np.random.default_rng(seed), *CANVAS) for seed in range(5)])


@pytest.fixture
def folder():
    return COMMITTED / "binary"


class FakeGpu:
    """The CPU: a recorded graph writes to the outputs that it was recorded with, as one of CUDA does."""

    name = "cpu"

    def __init__(self, dtype=torch.float32, error=None):
        self.dtype, self.error = dtype, error
        self.recorded, self.replayed, self.streaming, self.copies = [], 0, False, []

    @contextmanager
    def stream(self):
        self.streaming = True
        yield
        self.streaming = False

    def pinned(self, shape, dtype):
        return torch.empty(shape, dtype=dtype)

    def record(self, run):
        if self.error:
            raise self.error
        outputs = run()
        self.recorded.append(len(outputs[0]))

        def replay():
            assert self.streaming
            self.replayed += 1
            for output, result in zip(outputs, run(), strict=True):
                output.copy_(result)
            return outputs

        return replay

    def wait(self):
        assert self.streaming
        for copy in self.copies:
            copy()
        self.copies.clear()


@pytest.fixture
def late(monkeypatch):
    """A device whose results come with the wait: until then, memory that they are copied to has nothing in it."""
    gpu, copy = FakeGpu(), torch.Tensor.copy_

    def copy_later(target, source, non_blocking=False):
        if gpu.streaming and non_blocking and target.dtype == torch.float32:
            gpu.copies.append(lambda: copy(target, source))
            return target.fill_(torch.nan)
        return copy(target, source)

    monkeypatch.setattr(torch.Tensor, "copy_", copy_later)
    return gpu


def test_results_are_read_once_they_are_there(folder, late):
    engine, reference = TorchOnGpu(folder, 1, late), Torch(folder, 1)
    for cells in (5, 1, 5):
        assert_agree(engine.predict(PIXELS[:cells]), reference.predict(PIXELS[:cells]))
    assert not late.copies


def test_batches_of_any_size_are_those_of_the_cpu(folder):
    reference, gpu = Torch(folder, 1), FakeGpu()
    engine = TorchOnGpu(folder, 1, gpu)
    many = np.concatenate([np.roll(PIXELS, shift, axis=2) for shift in range(52)])[:257]
    # Compared at the end: no prediction is in memory that a later call writes to.
    predictions = {cells: engine.predict(many[:cells]) for cells in (1, 5, 257, 3, 8)}
    for cells, prediction in predictions.items():
        assert_agree(prediction, reference.predict(many[:cells]))
    assert gpu.recorded == [1, 8, 256], "each size once"
    engine.predict(many[:3], maps=False)
    assert gpu.recorded == [1, 8, 256, 8], "and once more without maps"


def test_bright_pixels_are_not_taken_for_negative_ones(folder):
    bright = np.random.default_rng(0).integers(30_000, 65_536, (3, *CANVAS)).astype(np.uint16)
    assert_agree(TorchOnGpu(folder, 1, FakeGpu()).predict(bright), Torch(folder, 1).predict(bright))


def test_maps_are_left_out_where_nobody_asks_for_them(folder):
    for engine in (TorchOnGpu(folder, 1, FakeGpu()), Torch(folder, 1)):
        whole, without = engine.predict(PIXELS), engine.predict(PIXELS, maps=False)
        np.testing.assert_array_equal(without.logits, whole.logits)
        assert whole.activation_map.shape[:2] == (5, 2)
        assert np.ptp(whole.activation_map) > 0
        assert without.activation_map.shape == (5, 2, 0, 0)


def test_what_cannot_be_recorded_is_launched_layer_by_layer(folder, caplog):
    gpu = FakeGpu(error=RuntimeError("operation not permitted when stream is capturing"))
    engine = TorchOnGpu(folder, 1, gpu)
    for cells in (1, 5):
        assert_agree(engine.predict(PIXELS[:cells]), Torch(folder, 1).predict(PIXELS[:cells]))
    assert gpu.replayed == 0
    assert caplog.text.count("cannot record the network (operation not permitted") == 1


def test_an_error_that_stays_with_the_process_is_not_taken_for_one_of_recording(folder):
    engine = TorchOnGpu(folder, 1, FakeGpu(error=RuntimeError("CUDA error: unspecified launch failure")))
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        engine.predict(PIXELS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_keeps_to_the_backbone_and_passes_the_gate(folder, dtype):
    engine = TorchOnGpu(folder, 1, FakeGpu(dtype))
    expected = Torch(folder, 1).predict(PIXELS)
    prediction = engine.predict(PIXELS)
    assert engines.compare(prediction, expected.logits) is None
    # It is not float32 after all.
    assert np.abs(prediction.logits - expected.logits).max() > 0
    assert prediction.logits.dtype == prediction.embedding.dtype == np.float32
    # Camera counts on a bright background, whose contrast is a few steps of bf16.
    bright = (PIXELS // 40 + 4000).astype(np.uint16)
    expected = Torch(folder, 1).predict(bright).embedding
    assert np.abs(engine.predict(bright).embedding - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_large"])
@pytest.mark.slow
def test_backbones_and_ensembles_run_in_lower_precision_with_channels_last(name):
    torch.manual_seed(0)
    how = {"resize": "pad", "normalisation": "contrast", "dropout": 0.0, "views": "symmetries"}
    members = [
        network.Network(backbones.build(each, "none", (45, 60)), 3, (45, 60), **how).eval()
        for each in ("compact", name)
    ]
    whole = network.Ensemble(members, 3, "embeddings").eval()
    images = torch.from_numpy(PIXELS[:, None].astype(np.float32))
    with torch.inference_mode():
        expected = whole(images)
        reduced = reduce_precision(whole, torch.bfloat16)(images)
    assert {output.dtype for output in reduced} == {torch.float32}
    scale = expected.embedding.abs().max()
    assert (reduced.embedding - expected.embedding).abs().max() < 0.05 * scale
    kernels = [layer.weight for layer in whole.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert {kernel.dtype for kernel in kernels} == {torch.bfloat16}
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    norms = [layer for layer in whole.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert {norm.running_var.dtype for norm in norms} == {torch.float32}


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_records_after_a_warm_up_and_shares_its_memory(monkeypatch, native):
    """The calls of CUDA that PyTorch is given, without CUDA."""
    fakes = fake_graphs.install(monkeypatch)
    said, stream = fakes.said, type("Stream", (), {"synchronize": lambda _: fakes.said.append("synchronize")})()

    def supported(including_emulation):
        assert not including_emulation
        return native

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    gpu = Gpu()
    assert gpu.dtype == (torch.bfloat16 if native else torch.float16)
    output = (torch.zeros(1),)

    def run():
        said.append("run")
        return output

    first = gpu.record(run)
    recording = ("record", (0, 1), stream, True)
    assert said == [*["run"] * torch_engine.WARM_UP, "synchronize", "graph", recording, "run", "recorded"]
    gpu.record(run)
    assert said.count(recording) == 2, "graphs share their memory"
    assert not torch.backends.cudnn.benchmark, "as it was"
    said.clear()
    assert first() is output
    assert said == ["replay"]
