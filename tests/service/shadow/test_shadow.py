"""A challenger that answers live traffic in a process of its own, with real bundles."""

import pytest

from fatescope.inference import shadow_records
from service.registry import challengers
from tests.support.bundles import copy_bundle
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected
from tests.support.waiting import until


def cells(seeds):
    return [("files", (f"a_1d1_{seed}_Ch1.ome.tif", tiff(typical(seed)))) for seed in seeds]


def classify(client, seed):
    response = client.post("/classify", params={"task": "binary"}, content=tiff(typical(seed)))
    assert response.status_code == 200, response.text
    return response.json()


def answered_in_shadow(folder, task="binary"):
    found = shadow_records.versions(folder / "records", task)
    return None if found is None else shadow_records.read(folder / "records", task, *found)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The binary bundle, with another version of it as its challenger."""
    folder = tmp_path_factory.mktemp("store")
    copy_bundle(folder / "binary", "binary")
    copy_bundle(challengers.folder(folder) / "binary", "binary", seed=7)
    return folder


@pytest.fixture(scope="module")
def served(store, tmp_path_factory):
    """A client of a service with a canary of everything, its state, and its folder."""
    folder = tmp_path_factory.mktemp("served")
    with (
        application(folder, store, shadow=True, canary=1.0, canary_limit_s=60.0) as app,
        connected(app) as client,
    ):
        state = app.state.service
        state.shadow.start()
        until(lambda: state.shadow.challenger("binary"))
        yield client, state, folder
        state.shadow.close()


def test_both_versions_answer_the_same_cells(served):
    client, state, folder = served
    versions = {state.models.get("binary").champion.version, state.shadow.challenger("binary").champion.version}
    assert len(versions) == 2
    answer = classify(client, 1)
    assert answer["model"]["version"] == state.shadow.challenger("binary").champion.version
    batch = client.post("/classify_batch", params={"task": "binary"}, files=cells(range(2, 12))).json()
    # The cells of a culture stay with the champion.
    assert batch["model"]["version"] == state.models.get("binary").champion.version
    explained = client.post("/classify", params={"task": "binary", "explain": True}, content=tiff(typical(1))).json()
    assert explained["model"] == batch["model"]
    label = {"label": answer["label"], "called": answer["label"], "asked": "true"}
    files = {"image": ("a_1d1_1_Ch1.ome.tif", tiff(typical(1)))}
    assert client.post("/feedback", params={"task": "binary"}, files=files, data=label).status_code == 200
    # The one cell that the challenger answered, ten of the batch, and the one that was explained.
    until(lambda: state.shadow.idle)
    state.shadow.close()
    rows = answered_in_shadow(folder)
    assert len(rows) == 12
    # The same network answers the same.
    assert (rows["label"] == rows["champion_label"]).all()
    assert rows["divergence"].max() < 1e-4
    assert set(rows["request_id"]) >= {answer["request_id"], batch["request_id"]}
    assert rows["ms"].min() > 0
    assert rows["dropped"].sum() == 0
    found = shadow_records.versions(folder / "records", "binary")
    labels = shadow_records.read(folder / "records", "binary", *found, labelled=True)
    assert labels[["truth", "asked"]].values.tolist() == [[answer["label"], True]]
    assert labels["group"].notna().all()
