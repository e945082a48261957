import json

import numpy as np
import pytest
from prometheus_client import REGISTRY

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


def test_a_version_that_another_thread_forgets_meanwhile_still_answers(store, monkeypatch):
    """One that is broken is forgotten, to be loaded anew, while calls for it and for others go on."""
    models = LoadedModels(store, "onnxruntime", 1)
    monkeypatch.setattr(loaded_models.metrics, "publish_engine", lambda *_, **__: models._loaded.clear())
    for version in ("1", "2", "3"):
        assert len(models.predict("binary", version, PIXELS)) == len(PIXELS)


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

    message = "CUDA error: an illegal memory access was encountered"

    def __init__(self, folder, threads, *_):
        self.engine, self.broken, self.calls = bundle.Graph(folder / bundle.GRAPH, threads), False, 0
        made.append(self)

    def predict(self, pixels, *, maps=True):
        self.calls += 1
        if self.broken or (pixels == 65535).all(axis=(1, 2)).any():
            raise RuntimeError(self.message)
        return self.engine.predict(pixels, maps=maps)


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


def test_maps_are_computed_for_who_explains_alone(store, monkeypatch):
    asked = []

    class Noting(Flaky):
        def predict(self, pixels, *, maps=True):
            asked.append(maps)
            return super().predict(pixels, maps=maps)

    monkeypatch.setitem(engines.ENGINES, "onnxruntime", Noting)
    models = LoadedModels(store, "onnxruntime", 1)
    models.prepare("binary", "3")
    asked.clear()
    models.predict("binary", "3", PIXELS)
    models.explain("binary", "3", PIXELS)
    assert asked == [False, True]


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


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU, whose engines are flaky."""
    made.clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(engines, "gpu_candidates", lambda: (["cuda", "torch-cuda"], []))
    monkeypatch.setitem(engines.ENGINES, "cuda", Flaky)
    monkeypatch.setitem(engines.ENGINES, "torch-cuda", Flaky)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("supervised", [True, False])
def test_an_error_that_stays_with_the_process_is_known_at_the_first_call(store, supervised):
    ended = []
    models = LoadedModels(store, None, 1, (lambda: ended.append(1)) if supervised else None)
    assert models.prepare("binary", "3") == {"engine": "cuda", "error": None}
    [engine] = made
    engine.broken, calls = True, engine.calls
    with pytest.raises(RuntimeError, match="illegal memory access"):
        models.predict("binary", "3", PIXELS)
    assert engine.calls == calls + 1, "no more tries in a context that is dead"
    assert len(made) == 1
    assert ended == ([1] if supervised else [])
    with pytest.raises(BundleError, match="the GPU is lost to this process"):
        models.predict("binary", "3", PIXELS)
    assert "illegal memory access" in models.prepare("binary", "3")["error"]


@pytest.mark.usefixtures("gpu")
def test_an_error_of_cuda_is_tried_on_known_good_input_at_once(store, monkeypatch):
    monkeypatch.setattr(Flaky, "message", "CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0")
    models = LoadedModels(store, None, 1)
    models.prepare("binary", "3")
    made[0].broken = True
    with pytest.raises(RuntimeError, match="CUDNN failure"):
        models.predict("binary", "3", PIXELS)
    assert len(made) == 2
    assert len(models.predict("binary", "3", PIXELS)) == len(PIXELS)


@pytest.mark.usefixtures("gpu")
def test_too_little_memory_for_a_call_is_no_fault_of_the_engine(store, monkeypatch):
    monkeypatch.setattr(Flaky, "message", "CUDA failure 2: out of memory ; GPU=0")
    ended = []
    models = LoadedModels(store, None, 1, lambda: ended.append(1))
    models.prepare("binary", "3")
    for _ in range(10):
        with pytest.raises(RuntimeError, match="out of memory"):
            models.predict("binary", "3", BAD)
    assert (len(made), ended) == (1, [])
    assert len(models.predict("binary", "3", PIXELS)) == len(PIXELS)


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_is_lost_while_a_version_is_loaded_does_not_put_it_on_the_processor(store, monkeypatch):
    ended = []
    models = LoadedModels(store, None, 1, lambda: ended.append(1))
    assert models.prepare("binary", "2")["error"] is None
    made.clear()

    class Lost(Flaky):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.broken = True

    with monkeypatch.context() as patch:
        patch.setitem(engines.ENGINES, "cuda", Lost)
        readiness = models.prepare("binary", "3")
    assert readiness["engine"] == ""
    assert "cuda: RuntimeError: CUDA error: an illegal memory access" in readiness["error"]
    assert len(made) == 1, "no other engine is tried"
    assert ended == [], "the gateway hears the reason"
    models.prepare("binary", "2")
    assert ended == [1]


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_lies_idle_is_shown(store, monkeypatch):
    def shown(name, **labels):
        return REGISTRY.get_sample_value(name, {"task": "binary", **labels})

    LoadedModels(store, None, 1).prepare("binary", "3")
    assert (shown("fatescope_gpu_unused"), shown("fatescope_engine", engine="cuda")) == (0, 1)
    monkeypatch.setattr(engines, "candidates", lambda: ["cuda", "onnxruntime"])
    monkeypatch.setitem(engines.ENGINES, "cuda", lambda *_: (_ for _ in ()).throw(RuntimeError("no cuDNN")))
    monkeypatch.setitem(engines.ENGINES, "onnxruntime", Flaky)
    models = LoadedModels(store, None, 1)
    assert models.prepare("binary", "3") == {"engine": "onnxruntime", "error": None}
    assert shown("fatescope_gpu_unused") == 1
    assert (shown("fatescope_engine", engine="cuda"), shown("fatescope_engine", engine="onnxruntime")) == (0, 1)
    # Someone who names the engine knows.
    LoadedModels(store, "onnxruntime", 1).prepare("binary", "3")
    assert shown("fatescope_gpu_unused") == 0


@pytest.mark.usefixtures("gpu")
def test_a_runner_that_is_to_use_a_gpu_and_cannot_is_not_ready(store, monkeypatch):
    models = LoadedModels(store, "gpu", 1)
    assert not models.lacks_gpu, "nobody has asked yet"
    with monkeypatch.context() as patch:
        for name in ("cuda", "torch-cuda"):
            patch.setitem(engines.ENGINES, name, lambda *_: (_ for _ in ()).throw(RuntimeError("no cuDNN")))
        reason = models.prepare("binary", "3")["error"]
        assert "no engine runs it on a GPU of this machine (cuda: RuntimeError: no cuDNN; torch-cuda: " in reason
        assert models.lacks_gpu
        other = LoadedModels(store, None, 1)
        other.prepare("binary", "3")
        assert not other.lacks_gpu
    assert models.prepare("binary", "2") == {"engine": "cuda", "error": None}
    assert not models.lacks_gpu
    monkeypatch.setattr(engines, "gpu_candidates", lambda: ([], ["this process sees no GPU of NVIDIA"]))
    assert "sees no GPU" in models.prepare("binary", "3")["error"]
    assert not models.lacks_gpu, "version 2 is served"
