import numpy as np
import openvino
import pytest

from fatescope.errors import BundleError
from fatescope.inference import bundle, uncertainty
from service.inference import engines
from tests.support.bundles import CANVAS, COMMITTED
from tests.support.images import draw_cell
from tests.support.predictions import assert_agree


@pytest.fixture
def folder():
    return COMMITTED / "binary"


PIXELS = np.stack([draw_cell(np.random.default_rng(seed), *CANVAS) for seed in range(5)])


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_engines_agree_on_all_outputs(folder, name):
    expected = bundle.load(folder, threads=1).predict(PIXELS)
    prediction = engines.ENGINES[name](folder, 1).predict(PIXELS)
    assert_agree(prediction, expected)


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
