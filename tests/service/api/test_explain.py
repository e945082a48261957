"""The activation map of a cell that was classified before: of an image, a page of a TIFF, an object of a .cif."""

import numpy as np
import pytest

from fatescope.data.crops import center
from fatescope.data.native import slices
from fatescope.inference import bundle
from tests.support import native
from tests.support.bundles import CANVAS
from tests.support.images import tiff, typical

CELLS = [typical(seed) for seed in range(5)]
NUMBERS = [3 * i + 1 for i in range(40)]
OBJECTS = [(np.stack([typical(i), typical(i) // 2]), np.zeros((2, 45, 60), np.uint8)) for i in range(40)]
RAW = native.pack(native.parts(OBJECTS, xml=native.acquisition_xml((3, 4), (3,)), numbers=NUMBERS))
CIF = "run.cif"


def explain(client, raw, label, **query):
    return client.post("/explain", files={"image": ("a.tif", raw)}, params={"label": label, **query})


def error(response):
    return response.status_code, response.json()["error"]["code"]


def alone(client, pixels):
    response = client.post("/classify", params={"explain": True}, content=tiff(pixels)).raise_for_status().json()
    return response["label"], response["activation_map"]


def test_the_map_is_that_of_a_classification(client, cell):
    label, drawn = alone(client, cell)
    response = explain(client, tiff(cell), label).raise_for_status().json()
    assert response["activation_map"] == drawn
    assert response["task"] == "multiclass"


def test_the_scale_is_in_the_unit_of_the_logit(client, bundles, cell):
    model = bundle.load(bundles / "multiclass", threads=1)
    classes = model.spec.classes
    prediction = model.predict(center(cell, CANVAS, "x")[None])
    drawn = [explain(client, tiff(cell), name).json()["activation_map"] for name in classes]
    maps = prediction.activation_map[0]
    for one, expected in zip(drawn, maps, strict=True):
        assert (one["rows"], one["columns"]) == expected.shape
        assert one["scale"] == pytest.approx(np.abs(expected).max() / expected.size, rel=1e-3)
        assert one["total"] == pytest.approx(expected.mean(), rel=1e-3, abs=1e-4)
    # What is left of the logits is the same for another cell.
    other = typical(77)
    totals = [explain(client, tiff(other), name).json()["activation_map"]["total"] for name in classes]
    logits = model.predict(center(other, CANVAS, "x")[None]).logits[0]
    left = prediction.logits[0] - [one["total"] for one in drawn]
    np.testing.assert_allclose(logits - totals, left, atol=2e-3)


def test_each_page_has_the_map_of_its_cell(client):
    raw = tiff(np.stack(CELLS))
    many = client.post("/classify_batch", files={"files": ("a.tif", raw)}).raise_for_status().json()["cells"]
    assert [cell["page"] for cell in many] == list(range(5))
    for cell, pixels in zip(many, CELLS, strict=True):
        label, drawn = alone(client, pixels)
        assert label == cell["label"]
        assert explain(client, raw, label, page=cell["page"]).json()["activation_map"] == drawn


def test_a_page_that_is_not_there_says_how_many_are(client):
    response = explain(client, tiff(np.stack(CELLS)), "NT3", page=5)
    assert error(response) == (400, "pages")
    assert "no page 5; it has 5, counted from 0" in response.text
    assert error(explain(client, tiff(np.stack(CELLS)), "NT3")) == (400, "pages")
    assert error(explain(client, b"x" * 100, "NT3", page=0)) == (400, "not_an_image")


def test_another_class_is_refused(client, cell):
    response = explain(client, tiff(cell), "unicorn")
    assert error(response) == (422, "parameters")
    assert "it has astrocyte, oligodendrocyte" in response.text
    assert error(client.post("/explain", content=tiff(cell))) == (422, "parameters")


def explain_object(client, raw, spans, place, label, *, size=None):
    parts = [("slices", raw[start:stop]) for start, stop in spans]
    query = {"offset": [start for start, _ in spans], "size": len(raw) if size is None else size, "name": CIF}
    return client.post("/explain_slices", files=parts, params=query | {"place": place, "label": label})


def ask(client, raw, place, label, first):
    """Return the map of an object, the requests that it took and the bytes of the largest."""
    at = int(place.split("-")[2])
    spans, sizes = [(0, min(first, at)), (at, min(at + first, len(raw)))], []
    for _ in range(10):
        sizes.append(sum(stop - start for start, stop in spans))
        response = explain_object(client, raw, spans, place, label).raise_for_status().json()
        if response["activation_map"]:
            assert response["next"] is None
            return response["activation_map"], len(sizes), max(sizes)
        spans = [(span["start"], span["stop"]) for span in response["next"]["slices"]]
    raise AssertionError("the service always asks for more")


@pytest.mark.parametrize("first", [10, 4000])
def test_an_object_has_the_map_of_its_image(client, monkeypatch, first):
    monkeypatch.setattr(slices, "NEAR", 4000)
    query = {"size": len(RAW), "name": CIF, "offset": 0, "details": True}
    cells = client.post("/classify_slices", files={"slices": RAW}, params=query).raise_for_status().json()["cells"]
    assert [int(cell["place"].split("-")[0]) for cell in cells] == list(range(40))
    for i in (0, 17, 39):
        label, drawn = alone(client, typical(i))
        assert cells[i]["label"] == label
        found, requests, largest = ask(client, RAW, cells[i]["place"], label, first)
        assert found == drawn
        assert requests < 8
        assert largest < 40_000 < len(RAW)


def test_the_place_is_said_with_details_alone(client):
    for details in (False, True):
        sent = client.post("/classify_batch", files=[("files", (CIF, RAW))], params={"details": details})
        assert all(("place" in cell) == details for cell in sent.json()["cells"])


@pytest.mark.parametrize("place", ["x", "1-2-3", "999999-1-5-0", "0-0-999999999-0"])
def test_a_place_that_is_none_is_an_error_of_the_client(client, place):
    response = explain_object(client, RAW, [(0, len(RAW))], place, "NT3")
    assert response.status_code in {400, 422}, response.text


def test_a_look_at_a_cell_is_no_cell_in_the_records(client, cell, monkeypatch):
    recorded = []
    monkeypatch.setattr(type(client.app.state.service.prediction_log), "add", lambda *call: recorded.append(call[1]))
    label, _ = alone(client, cell)
    assert len(recorded) == 1
    explain(client, tiff(cell), label).raise_for_status()
    assert len(recorded) == 1
