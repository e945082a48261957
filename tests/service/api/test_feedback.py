"""Corrections of users."""

import errno
import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from fatescope.data import corrections, dataset
from fatescope.data.export_folder import CORRECTIONS, read_labels
from fatescope.data.sidecar import LABELS, Label
from pipelines.commands import import_data
from pipelines.stages import ingest
from service.api import feedback
from service.inference.files import Upload
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
    assert response == {"sha256": hashlib.sha256(IMAGE).hexdigest(), "kept": False, "reason": None, "counts": True}
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
    assert "set FATESCOPE_FEEDBACK" not in response.json()["error"]["message"]
    assert (folder / LABELS).read_text() == "notes of mine"
    assert not list(folder.rglob("*.tif")), "an image that no correction speaks of would be imported"


def test_an_image_that_an_unreadable_name_replaces_leaves_no_row(client, folder):
    correct(client, keep_image="true").raise_for_status()
    other = tiff(typical(1))
    correct(client, image=other, keep_image="true").raise_for_status()
    assert correct(client, name="cell 1.tif", keep_image="true").json()["reason"]
    second = hashlib.sha256(other).hexdigest()[:12]
    assert list(read_labels(folder)) == [f"{second}/run/o_1d1_3_Ch1.ome.tif"]
    assert sorted(path.name for path in folder.rglob("*.tif")) == ["cell_1.tif", "o_1d1_3_Ch1.ome.tif"]


def test_corrections_that_several_processes_store_at_the_same_time_are_all_kept(bundles, tmp_path, folder):
    with application(tmp_path, bundles) as app:
        model = app.state.service.models.get("binary")

    def store(process):
        own = feedback.FeedbackStore(folder, 100)
        for i in range(10):
            own.add(
                feedback.Correction([Upload(b"%d %d" % (process, i), NAME)], "oligodendrocyte", "", keep_image=True),
                model,
            )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store, range(8)))
    paths = {line["path"] for line in lines(folder)}
    assert len(lines(folder)) == len(paths) == 80
    assert set(read_labels(folder)) == paths


def test_a_folder_that_cannot_be_locked_still_takes_corrections(client, folder, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(corrections.fcntl, "flock", refuse)
    with caplog.at_level("WARNING"):
        correct(client).raise_for_status()
    assert len(lines(folder)) == 1
    assert "cannot be locked (No locks available); run one gateway only" in caplog.text


def test_of_a_long_name_the_end_is_read(client, folder):
    response = correct(client, name=f"{'x' * 3000}/{NAME}", image=b"no image").json()["error"]
    assert len(response["file"]) < 600
    assert correct(client, name=f"{'x' * 3000}/{NAME}", keep_image="true").json()["reason"] is None
    assert lines(folder)[0]["path"].endswith("x/run/o_1d1_3_Ch1.ome.tif")


def test_an_image_whose_name_does_not_match_is_stored_with_the_reason(client, folder):
    response = correct(client, name="../../cell 1.tif", keep_image="true").json()
    assert response["kept"]
    assert "does not match dataset.pattern" in response["reason"]
    assert [str(path.relative_to(folder)) for path in folder.rglob("*.tif")] == [f"{FOLDER}/cell_1.tif"]


@pytest.mark.parametrize(("length", "stored"), [(116, 120), (117, 120), (200, 120), (20, 24)])
def test_of_a_name_that_says_nothing_the_last_120_characters_are_kept(client, folder, length, stored):
    correct(client, name="y" + "x" * (length - 1) + ".tif", keep_image="true").raise_for_status()
    [path] = folder.rglob("*.tif")
    assert len(path.name) == stored
    assert path.name.startswith("y") == (length + 4 <= 120)


def test_a_file_takes_the_blocks_of_the_disk_that_it_is_in(tmp_path, monkeypatch):
    # The size, and the blocks of 512 bytes: a small file takes more than its size, one with holes or compressed less.
    taken = {"small": (1, 8), "holes": (10_000, 0), "folder": (40, 8), "inside": (600, 2)}
    (tmp_path / "folder").mkdir()
    for name in ("small", "holes", "folder/inside"):
        (tmp_path / name).touch()
    fields = ("st_size", "st_blocks")
    monkeypatch.setattr(
        type(tmp_path), "lstat", lambda path: SimpleNamespace(**dict(zip(fields, taken[path.name], strict=True)))
    )
    assert feedback._size_on_disk(tmp_path) == 4096 + 10_000 + 4096 + 1024


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
    assert "send astrocyte or " in response.json()["error"]["message"]
    assert (response := correct(client, image=b"no image")).status_code == 400
    assert response.json()["error"]["code"] == "not_an_image"
    folder.write_text("a file where the folder should be")
    assert (response := correct(client)).status_code == 503
    assert "set FATESCOPE_FEEDBACK to a folder" in response.json()["error"]["message"]
