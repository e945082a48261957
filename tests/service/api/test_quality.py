"""The quality of cells in responses: of a model that knows the gates, and of one that is older than they are."""

import io

import pandas as pd
import pytest

from tests.support import native
from tests.support.gates import CELLS, EMPTY, JUNK, SATURATED, gated, reasons
from tests.support.images import tiff
from tests.support.in_process import application, connected

FILES = [(f"run/c{i}.tif", cell) for i, cell in enumerate(CELLS[:30])] + [
    (f"run/{name}.tif", cell) for name, cell in JUNK.items()
]


@pytest.fixture(scope="module", params=[False, True], ids=["trained with all", "trained without"])
def trained_without(request):
    return request.param


@pytest.fixture(scope="module")
def gated_client(tmp_path_factory, trained_without):
    folder = tmp_path_factory.mktemp("gated")
    with application(folder, gated(folder / "bundles", exclude=trained_without)) as app, connected(app) as client:
        yield client


def post(client, query="&quality=true", files=FILES):
    parts = [("files", (name, tiff(cell))) for name, cell in files]
    return client.post(f"/classify_batch?task=multiclass{query}", files=parts).raise_for_status()


def test_one_cell_is_answered_with_its_reasons(gated_client):
    def answered(cell):
        return gated_client.post("/classify?quality=true", content=tiff(cell)).raise_for_status().json()["quality"]

    assert answered(CELLS[5]) == []
    assert "saturated" in answered(SATURATED)
    assert "debris" in answered(EMPTY)


def test_quality_is_measured_where_it_is_asked_for_or_needed(gated_client, trained_without):
    """It takes about as long as a small network, and would double the time that a program waits for a cell."""
    alone = gated_client.post("/classify", content=tiff(SATURATED)).raise_for_status().json()
    assert (alone["quality"] is not None) is trained_without
    for query, known in (("", trained_without), ("&details=true", True), ("&exclude_outside=true", True)):
        response = post(gated_client, query).json()
        assert (response["cells"][0]["quality"] is not None) is known, query
        assert (response["sample"]["outside"] is not None) is known, query


def test_objects_sent_in_slices_have_the_reasons_of_their_images(gated_client, trained_without):
    drawn = [cell for _, cell in FILES[:4]] + [SATURATED]
    raw = native.native([(cell[None], None) for cell in drawn], masks=False)

    def answered(details):
        query = {"task": "multiclass", "name": "run.rif", "size": len(raw), "offset": 0, "details": details}
        return gated_client.post("/classify_slices", content=raw, params=query).raise_for_status().json()["cells"]

    assert [cell["quality"] for cell in answered(details=True)] == [reasons(cell) for cell in drawn]
    assert {cell["quality"] is not None for cell in answered(details=False)} == {trained_without}


def test_cells_of_a_batch_have_the_reasons_that_they_have_alone(gated_client):
    response = post(gated_client).json()
    found = {cell["file"]: cell["quality"] for cell in response["cells"]}
    for name, cell in FILES:
        assert found[name] == reasons(cell), name
    sample = response["sample"]
    assert sample["outside"] == sum(map(bool, found.values())) >= 2
    assert sample["outside_reasons"]["saturated"] == 1
    assert sample["cells"] == 32


def test_the_switch_decides_what_is_composed_and_else_the_training_does(gated_client, trained_without):
    kept, left_out, by_default = (
        post(gated_client, query).json() for query in ("&exclude_outside=false", "&exclude_outside=true", "")
    )
    assert (kept["outside_excluded"], left_out["outside_excluded"]) == (False, True)
    assert by_default["outside_excluded"] is trained_without
    expected = left_out if trained_without else kept
    assert by_default["sample"]["composition"] == expected["sample"]["composition"]
    inside = [(name, cell) for name, cell in FILES if not reasons(cell)]
    alone = post(gated_client, "&exclude_outside=false", inside).json()
    for label, share in alone["sample"]["composition"].items():
        assert left_out["sample"]["composition"][label]["share"] == pytest.approx(share["share"], abs=1e-5)
    # It is a choice of what is composed: the cells are answered all the same.
    assert [cell["label"] for cell in left_out["cells"]] == [cell["label"] for cell in kept["cells"]]


def test_a_sample_of_junk_alone_has_no_composition(gated_client):
    junk = [(f"run/{name}.tif", cell) for name, cell in JUNK.items()]
    response = post(gated_client, "&exclude_outside=true", junk).json()
    assert response["sample"]["composition"] is None
    assert response["sample"]["outside"] == response["sample"]["cells"] == 2
    [sample] = response["samples"]
    assert sample["composition"] is None


def test_tables_have_a_column_of_reasons(gated_client):
    table = pd.read_csv(io.BytesIO(post(gated_client, "&quality=true&format=csv").content)).set_index("file")
    assert "saturated" in table.loc["run/saturated.tif", "quality"]
    assert pd.isna(table.loc["run/c5.tif", "quality"])  # pandas reads an empty text as missing
    parquet = pd.read_parquet(io.BytesIO(post(gated_client, "&quality=true&format=parquet").content)).set_index("file")
    assert parquet.loc["run/c5.tif", "quality"] == ""
    exported = gated_client.post("/export?format=csv", json=post(gated_client).json()).raise_for_status()
    again = pd.read_csv(io.BytesIO(exported.content)).set_index("file")
    pd.testing.assert_series_equal(again["quality"], table["quality"])


def test_models_say_whether_they_leave_out_cells_outside(gated_client, trained_without):
    models = gated_client.get("/models").json()
    assert {model["excludes_outside"] for model in models} == {trained_without}


def test_drift_is_measured_on_cells_like_those_of_the_training(tmp_path, trained_without):
    with application(tmp_path, gated(tmp_path / "bundles", exclude=trained_without)) as app, connected(app) as client:
        post(client)
        for cell in (CELLS[5], SATURATED):
            client.post("/classify?task=multiclass", content=tiff(cell)).raise_for_status()
    recorded = len(pd.read_parquet(tmp_path / "records" / "multiclass"))
    sent = [cell for _, cell in FILES] + [CELLS[5], SATURATED]
    inside = sum(not reasons(cell) for cell in sent)
    assert recorded == (inside if trained_without else len(sent))
    assert inside < len(sent)


def test_a_model_without_gates_says_nothing_of_quality(client):
    assert client.post("/classify", content=tiff(SATURATED)).json()["quality"] is None
    response = post(client, "&exclude_outside=true").json()
    assert {cell["quality"] for cell in response["cells"]} == {None}
    assert response["sample"]["outside"] is None
    assert response["sample"]["outside_reasons"] == {}
    assert response["outside_excluded"] is False
    assert {model["excludes_outside"] for model in client.get("/models").json()} == {None}
    parquet = pd.read_parquet(io.BytesIO(post(client, "&format=parquet").content))
    assert parquet["quality"].isna().all()


def test_a_switch_that_is_neither_is_refused(gated_client):
    response = gated_client.post(
        "/classify_batch?exclude_outside=perhaps", files=[("files", ("c.tif", tiff(CELLS[0])))]
    )
    assert (response.status_code, response.json()["error"]["code"]) == (422, "parameters")
