"""Teaching a head over HTTP: cells described, a lesson, and the bundle."""

import hashlib
import io
import zipfile

import numpy as np
import pytest

from fatescope.inference import bundle
from service.api.routes import teaching
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


@pytest.mark.parametrize("vector", ["", "AAAA", "no base64!", "AADAfw=="])
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
