import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import openvino
import pytest

from fatescope.errors import BundleError
from fatescope.inference import bundle, cuda, uncertainty
from fatescope.inference.buckets import BUCKETS
from service.inference import engines
from tests.support import fake_cuda
from tests.support.bundles import CANVAS, COMMITTED
from tests.support.images import draw_cell
from tests.support.predictions import assert_agree
from tests.support.project import ROOT


@pytest.fixture
def folder():
    return COMMITTED / "binary"


PIXELS = np.stack([draw_cell(np.random.default_rng(seed), *CANVAS) for seed in range(5)])


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_engines_agree_on_all_outputs(folder, name):
    expected = bundle.load(folder, threads=1).predict(PIXELS)
    prediction = engines.ENGINES[name](folder, 1).predict(PIXELS)
    assert_agree(prediction, expected)


def test_openvino_gives_the_same_for_cells_together_apart_and_beside_each_other(folder):
    cells = np.resize(PIXELS, (71, *PIXELS.shape[1:]))
    expected, engine = engines.OpenVino(folder, "f32", 1).predict(cells), engines.OpenVino(folder, "f32", 2)
    slices = [slice(0, 71), *(slice(start, start + size) for size in (1, 7, 16, 65) for start in (0, 3))]

    def check(part):
        prediction = engine.predict(cells[part])
        for field in ("logits", "embedding", "activation_map"):
            np.testing.assert_array_equal(getattr(prediction, field), getattr(expected, field)[part])

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(check, slices * 3))
    assert engine._apart.idle


def test_openvino_goes_on_after_an_inference_that_failed(folder):
    engine = engines.OpenVino(folder, "f32", 2)
    with pytest.raises(RuntimeError):
        engine.predict(np.zeros((40, 3, *CANVAS), np.uint16))
    assert engine._apart.idle
    assert engine.predict(np.resize(PIXELS, (40, *PIXELS.shape[1:]))).logits.shape == (40, 2)


def test_signals_arrive_after_graphs_of_openvino_are_freed(folder):
    # In a process of its own, because without the care that is taken it dies where the processor has AMX.
    program = f"""
import signal
from pathlib import Path
from service.inference.openvino_engine import OpenVino

# Programs that are started in the background ignore it, and so does what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
engines = [OpenVino(Path({str(folder)!r}), "f32", 2) for _ in range(2)]
while engines:
    del engines[0]
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_bf16_keeps_the_precision_of_camera_counts(folder):
    # Cells on a bright background, whose whole contrast is a few bf16 steps.
    bright = (PIXELS // 40 + 4000).astype(np.uint16)
    expected = bundle.load(folder, threads=1).predict(bright).embedding
    embedding = engines.OpenVino(folder, "bf16", 1).predict(bright).embedding
    # With bf16 in the first layers too, they differ by more than their own magnitude.
    assert np.abs(embedding - expected).max() < 0.05 * np.abs(expected).max()


def test_the_first_engine_that_agrees_is_used(folder, monkeypatch):
    def wrong(path, threads):
        engine = engines.ENGINES["onnxruntime"](path, threads)
        predict = engine.predict
        monkeypatch.setattr(
            engine, "predict", lambda pixels: uncertainty.Prediction(-predict(pixels).logits, *([None] * 2))
        )
        return engine

    def missing(*_):
        raise ImportError("no such driver")

    monkeypatch.setitem(engines.ENGINES, "cuda", missing)
    monkeypatch.setitem(engines.ENGINES, "openvino", wrong)
    monkeypatch.setattr(engines, "candidates", lambda: ["cuda", "openvino", "onnxruntime"])
    loaded, name = engines.start(folder)
    assert name == "onnxruntime"
    loaded.check()


def test_a_bundle_that_no_engine_reproduces_is_an_error(folder):
    with pytest.raises(BundleError, match=r"no engine runs it on this machine .*cuda: "):
        engines.start(folder, "cuda")


def test_the_candidates_of_this_machine():
    names = engines.candidates()
    assert names[-1] == "onnxruntime"
    assert "openvino" in names
    native = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert ("openvino-bf16" in names) == native


def test_gpus_are_counted_without_a_framework(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert engines.gpus() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert engines.gpus() == 0
    # CUDA does not look beyond what it does not know.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7c, 3,-1,1")
    assert engines.gpus() == 2
    engines.select_gpu(3)
    assert (engines.gpus(), os.environ["CUDA_VISIBLE_DEVICES"]) == (1, "3")


def test_what_may_run_on_a_gpu_and_why_the_rest_cannot(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert engines.gpu_candidates() == ([], ["this process sees no GPU of NVIDIA"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    preloaded = []
    monkeypatch.setattr(cuda, "preload", lambda: preloaded.append(1))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"] if preloaded else None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    names, reasons = engines.gpu_candidates()
    assert names == []
    assert [reason.partition(":")[0] for reason in reasons] == ["cuda", "torch-cuda"]
    assert "onnxruntime-gpu" in reasons[0]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda.PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "torch")
    assert engines.gpu_candidates() == (["cuda", "torch-cuda"], [])


def test_a_gpu_runs_every_size_of_batch_before_it_serves(folder, monkeypatch):
    sessions = fake_cuda.install(monkeypatch)
    loaded, name = engines.start(folder, "gpu", memory_share=0.1)
    assert name == "cuda"
    assert sessions.started[0][0]["gpu_mem_limit"] == str(10**9)
    assert {size for *_, size in sessions.runs} == set(BUCKETS)
    served = len(sessions.runs)
    for cells in (1, 3, 100):
        assert len(loaded.predict(np.resize(PIXELS, (cells, *CANVAS)), maps=False).logits) == cells
    assert [size for *_, size in sessions.runs[served:]] == [1, 8, 128]


def test_an_engine_that_lacks_memory_for_the_largest_batch_is_left_for_the_next(folder, monkeypatch):
    class Small(bundle.Graph):
        def predict(self, pixels, *, maps=True):
            if len(pixels) > 64:
                raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
            return super().predict(pixels, maps=maps)

    monkeypatch.setitem(engines.ENGINES, "cuda", lambda path, threads, _: Small(path / bundle.GRAPH, threads))
    monkeypatch.setattr(engines, "candidates", lambda: ["cuda", "onnxruntime"])
    assert engines.start(folder, threads=1)[1] == "onnxruntime"
