import json

import numpy as np
import pytest

from fatescope.errors import BundleError
from fatescope.inference import bundle
from service.inference import engines, loaded_models
from service.inference.loaded_models import LoadedModels
from service.inference.runner_output import RunnerOutput
from tests.support.bundles import CANVAS, copy_bundle
from tests.support.images import draw_cell

PIXELS = np.stack([draw_cell(np.random.default_rng(seed), *CANVAS) for seed in range(3)])


@pytest.fixture
def store(tmp_path):
    for seed, version in enumerate(("1", "2", "3")):
        copy_bundle(tmp_path / "binary" / version, "binary", seed)
    (tmp_path / "champions.json").write_text(json.dumps({"binary": "3"}))
    return tmp_path


def test_versions_are_loaded_when_asked_for_and_the_oldest_are_dropped(store):
    models = LoadedModels(store, "onnxruntime", 1)
    for version in ("1", "2", "3"):
        assert models.prepare("binary", version) == {"engine": "onnxruntime", "error": None}
    assert [version for _, version in models._loaded] == ["2", "3"][-loaded_models.KEPT_VERSIONS :]
    expected = bundle.load(store / "binary" / "1", threads=1).predict(PIXELS)
    # A version that was dropped is loaded again.
    output = RunnerOutput.unpack(models.predict("binary", "1", PIXELS), classes=2)
    np.testing.assert_array_equal(output.logits, expected.logits)
    np.testing.assert_array_equal(models.explain("binary", "1", PIXELS), expected.activation_map)


def test_a_version_that_cannot_be_served_has_its_reason(store):
    models = LoadedModels(store, "onnxruntime", 1)
    assert "no bundle of task 'trinary'" in models.prepare("trinary", "1")["error"]
    assert "version 7 of fatescope-binary is not here" in models.prepare("binary", "7")["error"]
    (store / "binary" / "3" / bundle.GRAPH).write_bytes(b"")
    assert "changed or damaged" in models.prepare("binary", "3")["error"]


made = []
"""The engines of a test, in order."""


class Flaky:
    """An engine that raises on all cells once it is broken, and always on cells that are as bright as can be."""

    def __init__(self, folder, threads):
        self.engine, self.broken, self.calls = bundle.Graph(folder / bundle.GRAPH, threads), False, 0
        made.append(self)

    def predict(self, pixels):
        self.calls += 1
        if self.broken or (pixels == 65535).all(axis=(1, 2)).any():
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return self.engine.predict(pixels)


BAD = np.full((1, *CANVAS), 65535, np.uint16)


@pytest.fixture
def flaky(monkeypatch):
    made.clear()
    monkeypatch.setitem(engines.ENGINES, "onnxruntime", Flaky)


def failing_calls(models, pixels, count):
    for call in (models.predict, models.explain):
        for _ in range(count):
            with pytest.raises(RuntimeError, match="CUDA error"):
                call("binary", "3", pixels)


@pytest.mark.usefixtures("flaky")
def test_a_bad_cell_never_has_a_model_loaded_again(store):
    ended = []
    models = LoadedModels(store, "onnxruntime", 1, lambda: ended.append(1))
    failing_calls(models, BAD, 10)
    [engine] = made
    assert not ended
    assert len(models.predict("binary", "3", PIXELS)) == len(PIXELS)
    assert models.prepare("binary", "3") == {"engine": "onnxruntime", "error": None}
    assert engine.calls > 20, "known good input was tried"


@pytest.mark.usefixtures("flaky")
def test_a_model_whose_engine_fails_on_everything_is_loaded_again(store, caplog):
    ended = []
    models = LoadedModels(store, "onnxruntime", 1, lambda: ended.append(1))
    models.prepare("binary", "3")
    [engine] = made
    engine.broken = True
    for _ in range(loaded_models.MAX_FAILURES):
        with pytest.raises(RuntimeError, match="CUDA error"):
            models.predict("binary", "3", PIXELS)
    expected = bundle.load(store / "binary" / "3", threads=1).predict(PIXELS)
    output = RunnerOutput.unpack(models.predict("binary", "3", PIXELS), classes=2)
    np.testing.assert_array_equal(output.logits, expected.logits)
    assert len(made) == 2
    assert not ended
    assert "fails on known good input (RuntimeError: CUDA error" in caplog.text


@pytest.mark.usefixtures("flaky")
def test_one_failure_now_and_then_is_none_of_the_engine(store):
    models = LoadedModels(store, "onnxruntime", 1)
    models.prepare("binary", "3")
    [engine] = made
    for _ in range(5):
        engine.broken = True
        for _ in range(loaded_models.MAX_FAILURES - 1):
            with pytest.raises(RuntimeError, match="CUDA error"):
                models.predict("binary", "3", PIXELS)
        engine.broken = False
        models.predict("binary", "3", PIXELS)
    assert len(made) == 1


@pytest.mark.usefixtures("flaky")
@pytest.mark.parametrize("supervised", [True, False])
def test_a_model_that_cannot_be_loaded_again_ends_the_process_or_is_refused(store, monkeypatch, supervised):
    """An error of a GPU stays with the process; nobody starts the process of a test again."""
    ended = []
    models = LoadedModels(store, "onnxruntime", 1, (lambda: ended.append(1)) if supervised else None)
    models.prepare("binary", "3")
    made[0].broken = True
    with monkeypatch.context() as patch:
        patch.setitem(engines.ENGINES, "onnxruntime", lambda *_: (_ for _ in ()).throw(RuntimeError("no GPU")))
        for _ in range(loaded_models.MAX_FAILURES):
            with pytest.raises(RuntimeError, match="CUDA error"):
                models.predict("binary", "3", PIXELS)
    assert ended == ([1] if supervised else [])
    with pytest.raises(BundleError, match="also when loaded again"):
        models.predict("binary", "3", PIXELS)
    readiness = models.prepare("binary", "3")
    assert "fails on known good input" in readiness["error"]
    assert "no GPU" in readiness["error"]
    # Tried once more by the gateway, a minute later.
    assert models.prepare("binary", "3") == {"engine": "onnxruntime", "error": None}
    assert len(models.predict("binary", "3", PIXELS)) == len(PIXELS)
