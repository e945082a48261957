"""A service whose model has coarse classes."""

import io

import numpy as np
import pandas as pd
import pytest

from fatescope.data.crops import center
from fatescope.inference import bundle
from fatescope.inference.uncertainty import coarse_calls
from service.batch.worker import _cell_schema, _cell_table
from service.inference.decoding import CellDecoder
from service.inference.files import Upload
from tests.support.bundles import CANVAS, EXACT, copy_bundle
from tests.support.images import tiff, typical
from tests.support.project import ROOT
from tests.support.servers import serving

HIERARCHY = {"one": ["astrocyte", "NT3"], "other": ["oligodendrocyte", "RA/SHH"]}
"""Joins the classes that the committed bundle takes for each other."""
THRESHOLDS = {"one": 0.785}
"""The other coarse class is not called."""
SEEDS = range(24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    copy_bundle(folder / "multiclass", "multiclass")
    spec = bundle.read_spec(folder / "multiclass")
    bundle.finalize(
        folder / "multiclass", spec.model_copy(update={"hierarchy": HIERARCHY, "coarse_thresholds": THRESHOLDS})
    )
    return folder


@pytest.fixture(scope="module")
def client(folder, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served"), ROOT, {"FATESCOPE_BUNDLES": str(folder), **EXACT}) as client:
        yield client


@pytest.fixture(scope="module")
def assessment(folder):
    model = bundle.load(folder / "multiclass", threads=1)
    pixels = np.stack([center(typical(seed), CANVAS, "x") for seed in SEEDS])
    return model.assess(model.predict(pixels))


def test_a_cell_and_a_table_of_cells_have_the_coarse_class(client, folder, assessment):
    calls = coarse_calls(assessment, bundle.read_spec(folder / "multiclass").classes, HIERARCHY, THRESHOLDS)
    unsure = [call for call, verdict in zip(calls, assessment.verdicts, strict=True) if verdict == "unsure"]
    assert None in unsure
    assert any(unsure)
    number = calls.index(next(filter(None, unsure)))
    answer = client.post("/classify", content=tiff(typical(number))).raise_for_status().json()
    assert answer["coarse"] == {
        "label": calls[number].label,
        "probability": pytest.approx(calls[number].probability, abs=1e-5),
    }
    files = [("files", (f"{seed}.tif", tiff(typical(seed)))) for seed in SEEDS]
    response = client.post("/classify_batch", files=files).raise_for_status().json()
    assert response["hierarchy"] == HIERARCHY
    assert [cell["coarse"] and cell["coarse"]["label"] for cell in response["cells"]] == [
        call and call.label for call in calls
    ]
    exported = client.post("/export", params={"format": "csv"}, json=response).raise_for_status()
    table = pd.read_csv(io.BytesIO(exported.content))
    assert table["coarse"].dropna().tolist() == [call.label for call in calls if call]
    expected = [call.probability if call else np.nan for call in calls]
    np.testing.assert_allclose(table["coarse_probability"], expected, atol=1e-5)
    (model,) = client.get("/models").json()
    assert model["hierarchy"] == HIERARCHY


def test_scored_cells_have_it_where_the_task_does(folder, assessment):
    spec = bundle.read_spec(folder / "multiclass")
    cells = [next(CellDecoder(spec).decode(Upload(tiff(typical(seed)), f"{seed}.tif"))) for seed in SEEDS]
    table = _cell_table(cells, assessment, [None] * len(cells), spec)
    calls = coarse_calls(assessment, spec.classes, HIERARCHY, THRESHOLDS)
    assert table["coarse"].to_pylist() == [call and call.label for call in calls]
    assert table["coarse_probability"].null_count == calls.count(None)
    assert "coarse" not in _cell_schema(spec.model_copy(update={"hierarchy": {}})).names
