"""Corrections of users."""

import hashlib
import json
import shutil

import pytest

from fatescope.data import dataset
from fatescope.data.paths import CORRECTIONS, read_labels
from fatescope.data.sidecar import LABELS, Label
from pipelines.commands import import_data
from pipelines.stages import ingest
from service.api import feedback
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected

NAME = "run/a_1d1_3_Ch1.ome.tif"
IMAGE = tiff(typical(0))
FOLDER = hashlib.sha256(IMAGE).hexdigest()[:12]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "feedback"


@pytest.fixture
def client(bundles, tmp_path):
    with application(tmp_path, bundles) as app, connected(app) as client:
        yield client


def correct(client, name=NAME, image=IMAGE, **fields):
    fields = {"label": "oligodendrocyte", "called": "astrocyte", **fields}
    return client.post("/feedback", params={"task": "binary"}, files={"image": (name, image)}, data=fields)


def lines(folder):
    return [json.loads(line) for line in (folder / CORRECTIONS).read_text().splitlines()]


def test_without_consent_only_the_correction_is_stored(client, folder):
    response = correct(client).raise_for_status().json()
    assert response == {"sha256": hashlib.sha256(IMAGE).hexdigest(), "kept": False, "reason": None}
    [line] = lines(folder)
    assert (line["label"], line["called"], line["path"]) == ("oligodendrocyte", "astrocyte", None)
    assert [path.name for path in folder.iterdir()] == [CORRECTIONS]


def test_an_image_is_stored_under_its_true_class_and_a_second_correction_replaces_it(client, folder):
    assert correct(client, keep_image="true").json()["reason"] is None
    [line] = lines(folder)
    assert line["path"] == f"{FOLDER}/run/o_1d1_3_Ch1.ome.tif"
    assert (folder / line["path"]).read_bytes() == IMAGE
    correct(client, keep_image="true", label="astrocyte").raise_for_status()
    assert [path.name for path in folder.rglob("*.tif")] == ["a_1d1_3_Ch1.ome.tif"]


@pytest.mark.parametrize(
    ("name", "stored", "group"),
    [
        (NAME, "run/o_1d1_3_Ch1.ome.tif", "a_1_1"),
        ("run\\a_1d2_3_Ch1.ome.tif", "run/o_1d2_3_Ch1.ome.tif", "a_1_2"),
        ("run/A_1D2_3_CH1.OME.TIF", "run/o_1D2_3_CH1.OME.TIF", "a_1_2"),
        ("a_1d2_3_Ch1.ome (1).tif", "o_1d2_3_Ch1.ome.tif", "a_1_2"),
    ],
)
def test_a_correction_keeps_the_group_in_which_the_cell_was_acquired(
    client, folder, tmp_path, params, name, stored, group
):
    assert correct(client, name=name, keep_image="true").json()["reason"] is None
    [line] = lines(folder)
    assert (line["path"], line["group"]) == (f"{FOLDER}/{stored}", group)
    assert read_labels(folder) == {f"{FOLDER}/{stored}": Label("oligodendrocyte", group)}
    counts = import_data.import_export(params.dataset, folder, tmp_path / "data")
    assert counts.cells == {("oligodendrocyte", group): 1}
    ingest.ingest(params.dataset, params.ingest, tmp_path / "data", tmp_path / "cells")
    [row] = dataset.load(tmp_path / "cells").manifest.to_dict("records")
    assert (row["label"], row["group"]) == ("oligodendrocyte", group)


def test_a_second_correction_replaces_what_the_sidecar_says_and_others_stay(client, folder):
    correct(client, keep_image="true").raise_for_status()
    other = tiff(typical(1))
    correct(client, image=other, keep_image="true").raise_for_status()
    correct(client, keep_image="true", label="astrocyte").raise_for_status()
    second = hashlib.sha256(other).hexdigest()[:12]
    assert read_labels(folder) == {
        f"{FOLDER}/run/a_1d1_3_Ch1.ome.tif": Label("astrocyte", "a_1_1"),
        f"{second}/run/o_1d1_3_Ch1.ome.tif": Label("oligodendrocyte", "a_1_1"),
    }


def test_a_damaged_sidecar_is_not_written_over(client, folder):
    folder.mkdir()
    (folder / LABELS).write_text("notes of mine")
    response = correct(client, keep_image="true")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "feedback")
    assert "has no column path, label, group" in response.json()["error"]["message"]
    assert (folder / LABELS).read_text() == "notes of mine"


def test_an_image_whose_name_does_not_match_is_stored_with_the_reason(client, folder):
    response = correct(client, name="../../cell 1.tif", keep_image="true").json()
    assert response["kept"]
    assert "does not match dataset.pattern" in response["reason"]
    assert [str(path.relative_to(folder)) for path in folder.rglob("*.tif")] == [f"{FOLDER}/cell_1.tif"]


def test_corrections_are_refused_once_they_take_up_what_they_may(bundles, tmp_path, monkeypatch):
    monkeypatch.setattr(feedback, "_FULL_S", 0.0)
    with application(tmp_path, bundles, feedback_mb=0.1) as app, connected(app) as client:
        stored = 0
        while (response := correct(client, image=tiff(typical(stored)), keep_image="true")).status_code == 200:
            stored += 1
            assert stored < 100
        assert (response.status_code, response.json()["error"]["code"]) == (507, "feedback_full")
        assert "the 0.1 MB that they may" in response.json()["error"]["message"]
        assert "FATESCOPE_FEEDBACK_MB" in response.json()["error"]["message"]
        folder = tmp_path / "feedback"
        assert len(list(folder.rglob("*.tif"))) == len(lines(folder)) == stored
        assert stored > 3
        taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert taken <= 100_000
        # Other programs write to the folder, and empty it.
        shutil.rmtree(folder)
        correct(client, keep_image="true").raise_for_status()


def test_a_second_process_counts_what_the_first_has_stored(bundles, tmp_path):
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback" / "other").write_bytes(bytes(100_000))
    with application(tmp_path, bundles, feedback_mb=0.1) as app, connected(app) as client:
        assert correct(client).status_code == 507


def test_what_cannot_be_stored_is_rejected(client, folder):
    assert (response := correct(client, label="neuron")).status_code == 422
    assert response.json()["error"]["code"] == "unknown_class"
    assert (response := correct(client, image=b"no image")).status_code == 400
    assert response.json()["error"]["code"] == "not_an_image"
    folder.write_text("a file where the folder should be")
    assert (response := correct(client)).status_code == 503
    assert "set FATESCOPE_FEEDBACK to a folder" in response.json()["error"]["message"]
