"""Teaching a head over HTTP: cells described, a lesson, and the bundle."""

import dataclasses
import hashlib
import io
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import orjson
import pytest

from fatescope.inference import bundle
from service.api.routes import teaching
from service.inference import teaching as inference
from tests.support import native
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected

CELLS = 48
TASK = {"task": "binary"}


def crop(seed):
    pixels = typical(seed)
    if seed % 2:
        pixels[18:27, 24:36] //= 2
    return tiff(pixels)


@pytest.fixture(scope="module")
def described(client):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for seed in range(CELLS):
            file.writestr(f"run{seed // 2 % 4}/cell_{seed}.tif", crop(seed))
        file.writestr("run0/broken.tif", b"no image")
    response = client.post("/teach/cells", params=TASK, files={"files": ("cells.zip", archive.getvalue())})
    return response.raise_for_status().json()


def lesson(described, labelled=CELLS, **fields):
    cells = [
        {name: cell[name] for name in ("image_hash", "height", "width", "bit_depth", "vector")}
        | {"id": cell["file"], "sample": cell["sample"] or "", "label": _label(cell) if row < labelled else ""}
        for row, cell in enumerate(described["cells"])
    ]
    return {"version": described["model"]["version"], "cells": cells, "count": 5} | fields


def _label(cell):
    return "dark" if int(cell["file"].split("_")[-1].split(".")[0]) % 2 else "plain"


def test_cells_are_described_and_broken_files_named(described):
    assert len(described["cells"]) == CELLS
    assert [error["file"].split("/")[-1] for error in described["errors"]] == ["broken.tif"]


def test_a_lesson_says_how_right_it_is_and_what_to_label_next(client, described):
    answer = client.post("/teach/head", params=TASK, json=lesson(described, 40)).raise_for_status().json()
    learned = answer["lesson"]
    assert [(one["label"], one["labels"]) for one in learned["classes"]] == [("dark", 20), ("plain", 20)]
    assert learned["accuracy"]["value"] > 0.9
    assert learned["left_out"] == "samples"
    assert {one["description"] for one in learned["shortcuts"]} == {"background", "brightness", "focus"}
    assert len(answer["next"]) == 5
    assert set(answer["next"]) <= {cell["file"] for cell in described["cells"][40:]}


def test_too_few_labels_say_what_is_missing_and_where_to_begin(client, described):
    answer = client.post("/teach/head", params=TASK, json=lesson(described, 4)).raise_for_status().json()
    assert answer["lesson"] is None
    assert "each class needs 5" in answer["needs"]
    assert len(answer["next"]) == 5


def test_the_bundle_answers_for_the_new_classes_and_is_unsigned(client, described, tmp_path):
    response = client.post("/teach/bundle", params=TASK, json=lesson(described, name="nuclei", by="ann"))
    assert response.raise_for_status().headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        archive.extractall(tmp_path)
    model = bundle.load(tmp_path / "nuclei", 1)
    model.check()
    (tmp_path / "cell.tif").write_bytes(crop(1))
    assert model.classify(tmp_path / "cell.tif")[0].label == "dark"
    assert (model.spec.taught.by, model.spec.task) == ("ann", "nuclei")
    assert not list((tmp_path / "nuclei").glob("*.sig*"))


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"version": "another"}, 409, "version"),
        ({"name": "../nuclei"}, 422, "lesson"),
        ({"name": "nuclei", "cells": []}, 422, "lesson"),
    ],
)
def test_what_cannot_be_taught_is_refused(client, described, change, status, code):
    response = client.post("/teach/bundle", params=TASK, json=lesson(described) | {"name": "nuclei"} | change)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("vector", ["", "AAAA", "no base64!", "AADAfw==", "AACAPw=="])
def test_a_vector_of_another_model_is_refused(client, described, vector):
    content = lesson(described)
    content["cells"][0]["vector"] = vector
    response = client.post("/teach/head", params=TASK, json=content)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "parameters")


def test_a_vector_with_what_is_no_number_is_refused(client, described):
    content = lesson(described)
    size = len(content["cells"][0]["vector"])
    import base64  # noqa: PLC0415  for one value

    numbers = np.frombuffer(base64.b64decode(content["cells"][0]["vector"]), "<f4").copy()
    numbers[0] = np.nan
    content["cells"][0]["vector"] = base64.b64encode(numbers.tobytes()).decode()
    assert len(content["cells"][0]["vector"]) == size
    assert client.post("/teach/head", params=TASK, json=content).status_code == 422


def test_others_are_told_to_wait(client, described, monkeypatch):
    monkeypatch.setattr(teaching, "_WAIT_S", 0.01)
    with teaching._turn:
        response = client.post("/teach/head", params=TASK, json=lesson(described))
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


def test_it_needs_a_scope_of_its_own(bundles, tmp_path):
    keys = tmp_path / "keys.json"
    entries = ", ".join(
        f'{{"name": "{scope}", "sha256": "{hashlib.sha256(scope.encode()).hexdigest()}", "scopes": ["{scope}"]}}'
        for scope in ("feedback", "teach")
    )
    keys.write_text(f'{{"keys": [{entries}]}}')
    with application(tmp_path, bundles, keys=keys) as app, connected(app) as client:
        for key, status in (("feedback", 403), ("teach", 200)):
            response = client.post(
                "/teach/head",
                params=TASK,
                json={"version": client_version(client), "cells": []},
                headers={"authorization": f"Bearer {key}"},
            )
            assert response.status_code == status, response.text


def client_version(client):
    models = client.get("/models", headers={"authorization": "Bearer teach"}).json()
    return next(one for one in models if one["task"] == "binary")["model"]["version"]


def test_populations_of_an_analysis_are_labels(client):
    content = native.analysis("cells.cif", 9, {"alive": [1, 2, 7]}, {"first": (0, 3)})
    answer = client.post("/teach/populations", content=content).raise_for_status().json()
    assert answer["cif"] == "cells.cif"
    spans = {one["name"]: one["spans"] for one in answer["populations"]}
    assert spans == {"alive": [[1, 2], [7, 7]], "first": [[0, 3]]}
    refused = client.post("/teach/populations", content=b"no analysis")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "analysis")


def test_a_label_that_ends_before_its_end_is_refused(client, described):
    for name, text in (("label", "\0"), ("label", "dark\n# Signed"), ("sample", "run0\0")):
        content = lesson(described)
        content["cells"][0][name] = text
        response = client.post("/teach/head", params=TASK, json=content)
        assert (response.status_code, response.json()["error"]["code"]) == (422, "parameters")
    content = lesson(described)
    content["cells"][0]["label"] += " "
    learned = client.post("/teach/head", params=TASK, json=content).raise_for_status().json()["lesson"]
    assert len(learned["classes"]) == 2


def test_the_same_image_in_two_samples_counts_once(client, described):
    content = lesson(described)
    copies = [cell | {"id": f"copy {cell['id']}", "sample": f"copy {cell['sample']}"} for cell in content["cells"]]
    content["cells"] += copies
    answer = client.post("/teach/head", params=TASK, json=content).raise_for_status().json()
    assert [one["labels"] for one in answer["lesson"]["classes"]] == [CELLS // 2] * 2
    # Nor is anybody asked to label what is labelled already.
    for cell in copies:
        cell["label"] = ""
    assert client.post("/teach/head", params=TASK, json=content).raise_for_status().json()["next"] == []


def test_two_labels_of_the_same_image_are_named(client, described):
    content = lesson(described)
    content["cells"].append(content["cells"][0] | {"id": "copy", "label": "another"})
    response = client.post("/teach/head", params=TASK, json=content)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "lesson")
    assert "and 'copy' are the same image" in response.text


def test_lessons_that_wait_take_no_thread_of_those_that_decode(client, described, monkeypatch):
    monkeypatch.setattr(teaching, "_WAIT_S", 3.0)
    content = orjson.dumps(lesson(described, 4))
    headers = {"content-type": "application/json"}
    with teaching._turn, ThreadPoolExecutor(45) as pool:
        waiting = [
            pool.submit(client.post, "/teach/head", params=TASK, content=content, headers=headers) for _ in range(45)
        ]
        time.sleep(0.5)
        client.post("/classify_batch", params=TASK, files={"files": ("a.tif", crop(0))}).raise_for_status()
        assert not any(answer.done() for answer in waiting)
        assert {answer.result().status_code for answer in waiting} == {503}


def test_cells_count_for_the_quota_also_where_there_are_too_many(bundles, tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(inference, "CHUNK", 4)
    monkeypatch.setattr(inference, "count_cells", counted.append)
    with application(tmp_path, bundles, max_cells=6) as app, connected(app) as client:
        for cells, status in ((6, 200), (7, 413)):
            files = [("files", (f"{seed}.tif", crop(seed))) for seed in range(cells)]
            assert client.post("/teach/cells", params=TASK, files=files).status_code == status
    assert counted == [4, 2, 4]


def test_no_pixels_are_kept_of_cells_that_are_described():
    kept = {field.name for field in dataclasses.fields(inference.Described)}
    assert not kept & {"cell", "pixels", "native"}


def test_populations_of_too_many_pieces_are_refused(client, monkeypatch):
    monkeypatch.setattr(teaching, "_MAX_SPANS", 2)
    for members, status in (([1, 3], 200), ([1, 3, 5], 400)):
        answer = client.post("/teach/populations", content=native.analysis("cells.cif", 9, {"alive": members}, {}))
        assert answer.status_code == status
