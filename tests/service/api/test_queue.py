"""Ids of answers, labels that name them, and the queue of cells to label."""

import json

import numpy as np
import pytest

from fatescope.data.crops import pixel_hash
from fatescope.data.export_folder import CORRECTIONS
from fatescope.inference import label_queue
from fatescope.inference.labels import append_labels, read_labels
from tests.support.images import draw_cell, tiff
from tests.support.in_process import application, connected

CELLS = 120


@pytest.fixture(scope="module")
def crops():
    rng = np.random.default_rng(0)
    return [draw_cell(rng, 40 + i % 5, 60) for i in range(CELLS)]


@pytest.fixture(scope="module")
def answered(bundles, crops, tmp_path_factory):
    """A client whose cells are recorded, the folder that it writes to, and what it answered."""
    folder = tmp_path_factory.mktemp("queue")
    sent = [("files", ("broken.tif", b"no image")), *(("files", (f"c{i}.tif", tiff(c))) for i, c in enumerate(crops))]
    with application(folder, bundles) as app, connected(app) as client:
        response = client.post("/classify_batch", params={"task": "binary", "details": True}, files=sent)
        cells = response.raise_for_status().json()["cells"]
        app.state.service.prediction_log.close()
        yield client, folder, cells


def label(client, **fields):
    return client.post("/feedback", params={"task": "binary"}, data=fields)


def queue(client, method="GET"):
    return client.request(method, "/queue", params={"task": "binary"})


def test_each_classified_cell_has_an_id_and_those_of_one_answer_differ(answered, crops):
    _, _, cells = answered
    named = {cell["file"]: cell for cell in cells if cell.get("id")}
    assert len(named) == CELLS == len({cell["id"] for cell in named.values()})
    assert not any(cell.get("id") for cell in cells if cell["file"] == "broken.tif")
    assert named["c7.tif"]["image_hash"] == str(pixel_hash(crops[7]))


def test_a_batch_is_drawn_from_the_records_and_labels_find_it_after_the_records_are_gone(answered):
    client, folder, cells = answered
    shown = {cell["id"]: cell for cell in cells if cell.get("id")}
    drawn = queue(client, "POST").raise_for_status().json()
    assert drawn["drawn"] == len(drawn["cells"]) == min(label_queue.DRAWN, CELLS)
    assert all(shown[cell["id"]]["label"] == cell["label"] for cell in drawn["cells"])
    assert all(shown[cell["id"]]["image_hash"] == cell["image_hash"] for cell in drawn["cells"])
    again = queue(client, "POST")
    assert again.status_code == 409
    assert "0 cells were recorded since the last batch" in again.json()["error"]["message"]
    for path in (folder / "records" / "binary").glob("*.parquet"):
        path.unlink()
    first, second, third = (cell["id"] for cell in drawn["cells"][:3])
    label(client, cell=second, label="astrocyte", called="astrocyte").raise_for_status()
    label(client, cell=first, label="oligodendrocyte").raise_for_status()
    label(client, cell=third, label="").raise_for_status()
    left = queue(client).json()
    assert (left["labelled"], len(left["cells"])) == (3, drawn["drawn"] - 3)
    [batch] = label_queue.read_batches(folder / "records", "binary", drawn["model"]["version"])
    assert batch.first(read_labels(folder / "feedback")).tolist() == [1, 0, label_queue.UNTOLD]


def test_a_correction_with_its_image_finds_the_cell_by_its_pixels(answered, crops):
    client, folder, cells = answered
    if not queue(client).json()["drawn"]:
        queue(client, "POST").raise_for_status()
    waiting = queue(client).json()["cells"][-1]
    [file] = [cell["file"] for cell in cells if cell.get("id") == waiting["id"]]
    image = ("renamed.tif", tiff(crops[int(file[1:-4])]))
    client.post(
        "/feedback", params={"task": "binary"}, files={"image": image}, data={"label": "astrocyte"}
    ).raise_for_status()
    assert waiting["id"] not in [cell["id"] for cell in queue(client).json()["cells"]]
    line = json.loads((folder / "feedback" / CORRECTIONS).read_text().splitlines()[-1])
    assert (line["cell"], line["image_hash"]) == (None, int(waiting["image_hash"]))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"label": "astrocyte"}, "send the image of the cell, or its id"),
        ({"label": "", "cell": "x-0", "keep_image": "true"}, "no image in this request to keep"),
        ({"label": "neuron", "cell": "x-0"}, "'neuron' is not a class"),
    ],
)
def test_a_label_that_says_nothing_of_a_cell_is_refused(answered, fields, reason):
    response = label(answered[0], **fields)
    assert response.status_code == 422
    assert reason in response.json()["error"]["message"]


def test_an_image_needs_a_class(answered, crops):
    files = {"image": ("a.tif", tiff(crops[0]))}
    response = answered[0].post("/feedback", params={"task": "binary"}, files=files, data={"label": ""})
    assert response.status_code == 422


def test_the_id_of_a_request_names_its_only_cell(tmp_path):
    append_labels(tmp_path, "binary", [("ab12", "astrocyte")])
    assert read_labels(tmp_path).of("ab12-0", 0) == "astrocyte"
    assert read_labels(tmp_path).of("ab12-1", 0) is None


def test_what_was_said_of_an_image_for_another_task_is_no_label_of_it(tmp_path):
    """Its class would be none of this task, and so would read as if nobody could tell."""
    lines = [
        {"task": "multiclass", "cell": "cd34-0", "image_hash": 5, "label": "oligodendrocyte"},
        {"task": "binary", "cell": "ab12-0", "image_hash": 7, "label": "astrocyte"},
        {"cell": "ab12-1", "image_hash": None, "label": "neuron"},
    ]
    (tmp_path / CORRECTIONS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    labels = read_labels(tmp_path, "binary")
    assert [labels.of(*cell) for cell in (("ef56-0", 5), ("ef56-1", 7), ("ab12-1", 9))] == [None, "astrocyte", "neuron"]
    assert read_labels(tmp_path).of("ef56-0", 5) == "oligodendrocyte"
