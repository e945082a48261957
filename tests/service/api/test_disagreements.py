"""A key that may send corrections cannot change what another one has said of a cell."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

from fatescope.data.export_folder import CORRECTIONS
from fatescope.data.sidecar import LABELS
from fatescope.inference import label_queue
from fatescope.inference.labels import read_labels
from service.api import key_file
from tests.support.images import draw_cell, tiff
from tests.support.in_process import application, connected

CELLS = 110
KEYS = {
    "ann": ["classify", "feedback"],
    "bob": ["feedback"],
    "operator": ["feedback", "admin"],
}


@pytest.fixture
def crops():
    rng = np.random.default_rng(0)
    return [draw_cell(rng, 40 + i % 5, 60) for i in range(CELLS)]


@pytest.fixture
def app(bundles, tmp_path):
    for name, scopes in KEYS.items():
        digest = hashlib.sha256(name.encode()).hexdigest()
        key_file.add(tmp_path / "keys.json", key_file.make_entry(name, digest, scopes))
    with application(tmp_path, bundles, keys=tmp_path / "keys.json") as app:
        yield app


@pytest.fixture
def client(app):
    with connected(app) as client:
        yield client


def send(client, key, label, image=None, **fields):
    files = {"image": (f"{key}_a_1d1_3_Ch1.ome.tif", tiff(image))} if image is not None else None
    response = client.post(
        "/feedback", params={"task": "binary"}, headers={"x-api-key": key}, files=files, data={"label": label, **fields}
    )
    return response.raise_for_status().json()


def queue(client, method="GET"):
    response = client.request(method, "/queue", params={"task": "binary"}, headers={"x-api-key": "ann"})
    return response.raise_for_status().json()


def test_a_queued_cell_keeps_its_label_in_whichever_way_another_key_names_it(app, client, crops, tmp_path):
    sent = [("files", (f"c{i}.tif", tiff(crop))) for i, crop in enumerate(crops)]
    classified = client.post(
        "/classify_batch", params={"task": "binary", "details": True}, headers={"x-api-key": "ann"}, files=sent
    )
    images = {cell["image_hash"]: crops[i] for i, cell in enumerate(classified.raise_for_status().json()["cells"])}
    app.state.service.prediction_log.close()
    drawn = queue(client, "POST")
    [first, second, third] = drawn["cells"][:3]

    def targets():
        [batch] = label_queue.read_batches(tmp_path / "records", "binary", drawn["model"]["version"])
        return batch.targets(read_labels(tmp_path / "feedback", "binary")).tolist()[:3]

    assert send(client, "ann", "astrocyte", cell=first["id"])["counts"]
    assert send(client, "ann", "astrocyte", images[second["image_hash"]])["counts"]
    assert send(client, "ann", "", cell=third["id"])["counts"]
    for cell in (first, second, third):
        assert not send(client, "bob", "oligodendrocyte", cell=cell["id"])["counts"]
        assert not send(client, "bob", "oligodendrocyte", images[cell["image_hash"]])["counts"]
    assert targets() == [0, 0, label_queue.UNTOLD]
    seen = queue(client)
    assert [cell["id"] for cell in seen["disputed"]] == [cell["id"] for cell in (first, second, third)]
    assert seen["labelled"] == 3
    assert send(client, "ann", "oligodendrocyte", cell=first["id"])["counts"]
    assert send(client, "operator", "oligodendrocyte", cell=second["id"])["counts"]
    assert not send(client, "ann", "astrocyte", images[second["image_hash"]])["counts"]
    assert targets() == [1, 1, label_queue.UNTOLD]
    assert [cell["id"] for cell in queue(client)["disputed"]] == [cell["id"] for cell in (second, third)]
    lines = [json.loads(line) for line in (tmp_path / "feedback" / CORRECTIONS).read_text().splitlines()]
    assert {(line["by"], line["scope"]) for line in lines} == {
        ("ann", "feedback"), ("bob", "feedback"), ("operator", "admin"),
    }  # fmt: skip


def test_an_image_that_is_stored_keeps_what_its_author_has_said_of_it(client, crops, tmp_path):
    image = crops[0]

    def labels():
        return [row.split(",")[1] for row in (tmp_path / "feedback" / LABELS).read_text().splitlines()[1:]]

    assert send(client, "ann", "astrocyte", image, keep_image=True)["kept"]
    stored = {path: path.read_bytes() for path in (tmp_path / "feedback").rglob("*.tif")}
    answer = send(client, "bob", "oligodendrocyte", image, keep_image=True)
    assert (answer["kept"], answer["counts"]) == (False, False)
    assert "somebody else" in answer["reason"]
    assert labels() == ["astrocyte"]
    assert {path: path.read_bytes() for path in (tmp_path / "feedback").rglob("*.tif")} == stored
    assert send(client, "ann", "oligodendrocyte", image, keep_image=True)["kept"]
    assert labels() == ["oligodendrocyte"]
    assert send(client, "operator", "astrocyte", image, keep_image=True)["kept"]
    assert labels() == ["astrocyte"]
    assert not send(client, "ann", "oligodendrocyte", image, keep_image=True)["kept"]


def test_a_challenger_is_compared_by_labels_that_count_alone(app, client, crops):
    compared = []

    async def add_label(_, __, label, *, asked):
        compared.append((label, asked))

    object.__setattr__(app.state.service, "shadow", SimpleNamespace(add_label=add_label, close=lambda: None))
    send(client, "ann", "astrocyte", crops[0])
    send(client, "bob", "oligodendrocyte", crops[0])
    send(client, "operator", "oligodendrocyte", crops[0])
    assert compared == [("astrocyte", False), ("oligodendrocyte", False)]
