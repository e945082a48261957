"""The vectors that the page's JavaScript is held to are what Python makes of the same input."""

import base64
import json

import numpy as np
import pytest

from fatescope.inference import composition
from fatescope.inference.ood import MahalanobisDetector
from fatescope.inference.uncertainty import Prediction, assess_prediction, coarse_calls
from tests.support import page_vectors


def read(name):
    return json.loads((page_vectors.FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", read("images"), ids=lambda vector: vector["name"])
def test_an_image(vector):
    found = page_vectors.decoded(base64.b64decode(vector["file"]), vector["name"])
    assert found == {key: vector[key] for key in found}
    assert vector.keys() - found.keys() == {"name", "file", "unsupported"}


@pytest.mark.parametrize("vector", read("native"), ids=lambda vector: vector["name"])
def test_a_native_file(vector):
    found = page_vectors.decoded_native(base64.b64decode(vector["file"]), vector["name"])
    assert found == {key: vector[key] for key in found}


def test_quality():
    content, again = read("quality"), page_vectors.quality()
    assert [cell["reasons"] for cell in content["cells"]] == [cell["reasons"] for cell in again["cells"]]
    for known, found in zip(content["cells"], again["cells"], strict=True):
        assert known["pixels"] == found["pixels"]
        np.testing.assert_allclose(known["features"], found["features"], rtol=1e-5)


def test_assessments(tmp_path):
    content = read("assessments")
    (tmp_path / "outliers").write_bytes(base64.b64decode(content["outliers"]))
    outliers = MahalanobisDetector.load(tmp_path / "outliers")
    logits, embedding = (np.float32([cell[name] for cell in content["cells"]]) for name in ("logits", "embedding"))
    found = assess_prediction(Prediction.of(logits, embedding), content["conformal"], content["threshold"], outliers)
    np.testing.assert_allclose(found.probabilities, [cell["probabilities"] for cell in content["cells"]], rtol=1e-6)
    np.testing.assert_allclose(found.distance, [cell["distance"] for cell in content["cells"]], rtol=1e-5)
    assert found.sets.tolist() == [cell["set"] for cell in content["cells"]]
    assert found.verdicts.tolist() == [cell["verdict"] for cell in content["cells"]]
    for name, thresholds in (("coarse", content["coarse_thresholds"]), ("coarse_without_thresholds", None)):
        coarse = coarse_calls(found, ["A", "B", "C", "D"], content["hierarchy"], thresholds)
        assert [call and call.label for call in coarse] == [
            (cell[name] or {}).get("label") for cell in content["cells"]
        ]


@pytest.mark.parametrize("vector", read("compositions"), ids=lambda vector: str(len(vector["probabilities"])))
def test_a_composition(vector):
    given = np.float32(vector["probabilities"]), np.array(vector["prior"]), np.array(vector["error"])
    found = composition.estimate(*given)
    for name in ("shares", "low", "high"):
        np.testing.assert_allclose(getattr(found, name), vector[name], atol=1e-8)


def test_a_table():
    assert read("table") == page_vectors.table()
