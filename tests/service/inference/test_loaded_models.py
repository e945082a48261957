import json

import numpy as np
import pytest

from fatescope.inference import bundle
from service.inference import loaded_models
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
