"""Cells with several images over time, in one request."""

import json
from types import SimpleNamespace

import pytest

from fatescope.config import Dataset
from fatescope.data.paths import PathParser
from fatescope.inference.track_evidence import TrackEvidence
from service.inference.track_answers import answer_tracks
from tests.support.bundles import EVIDENCE, copy_followed_bundle
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected
from tests.support.project import ROOT

TABLE = json.loads((ROOT / "tests" / "page" / "tracks.json").read_text(encoding="utf-8"))


def answered(cells, dataset):
    """Return the tracks of `cells` by the model of the table, whose names `dataset` reads."""
    known = TABLE["model"]
    spec = SimpleNamespace(
        tracks=TrackEvidence(correlation=known["correlation"], scale=known["scale"], frames=8, tracks=100),
        params={"dataset": dataset},
        classes=known["classes"],
        prior=known["prior"],
        coverage=known["coverage"],
    )
    return answer_tracks(cells, spec, PathParser(Dataset.read(dataset)))


def test_the_objects_of_a_native_file_are_no_images_of_one_cell():
    pattern = r"(?P<medium>[a-z])_(?P<day>\d+)d(?P<run>\d*)_(?P<object>\d+)_t(?P<hour>[^_]+)_(?P<channel>)"
    dataset = TABLE["dataset"] | {"pattern": pattern, "channels": {"": "brightfield"}}
    for name, tracks in (("a_1d1_5_t0_all.CIF", 0), ("a_1d1_5_t0_all.tif", 1)):
        objects = [cell | {"object": i, "file": name} for i, cell in enumerate(TABLE["cells"][:2])]
        assert len(answered(objects, dataset)) == tracks


def test_the_service_answers_tracks_as_the_page_does():
    found = answered(TABLE["cells"], TABLE["dataset"])
    for track, expected in zip(found, TABLE["tracks"], strict=True):
        frames, expected_frames = track.pop("frames"), expected.pop("frames")
        assert track == expected
        for frame, one in zip(frames, expected_frames, strict=True):
            assert frame.pop("probabilities") == pytest.approx(one.pop("probabilities"), abs=1e-8)
            assert frame == one


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    copy_followed_bundle(folder / "binary", "binary")
    with application(tmp_path_factory.mktemp("application"), folder) as app, connected(app) as client:
        yield client


def upload(**times):
    """Return the files of cells, by name → hours of their images."""
    names = [f"a_1d1_{cell[1:]}_t{hour}_Ch1.ome.tif" for cell, hours in times.items() for hour in hours]
    return [("files", (name, tiff(typical(seed)))) for seed, name in enumerate(names)]


def test_images_of_one_cell_are_answered_together_in_the_order_of_time(client):
    files = upload(c7=[12, 0, 6], c8=[0], c9=[0, 6])
    files.append(("files", ("a_1d1_9_tx_Ch1.ome.tif", tiff(typical(9)))))
    answer = client.post("/classify_batch", files=files).raise_for_status().json()
    assert len(answer["cells"]) == 7
    assert [(track["group"], track["track"]) for track in answer["tracks"]] == [("a_1_1", "7"), ("a_1_1", "9")]
    cells = {cell["id"]: cell for cell in answer["cells"]}
    seven = answer["tracks"][0]
    assert [frame["time"] for frame in seven["frames"]] == [0, 6, 12]
    assert [cells[frame["id"]]["file"][8:-12] for frame in seven["frames"]] == ["t0", "t6", "t12"]
    last = seven["frames"][-1]["probabilities"]
    assert seven["label"] == max(last, key=last.get)
    assert sum(last.values()) == pytest.approx(1)


def test_two_images_of_one_time_are_in_the_order_of_their_names(client):
    files = [("files", (f"a_1d1_7_t{hour}_Ch1.ome.tif", tiff(typical(seed)))) for seed, hour in enumerate(["03", "3"])]
    answers = [client.post("/classify_batch", files=its).raise_for_status().json() for its in (files, files[::-1])]
    orders = [
        [next(cell["file"] for cell in answer["cells"] if cell["id"] == frame["id"]) for frame in track["frames"]]
        for answer in answers
        for track in answer["tracks"]
    ]
    assert orders == [["a_1d1_7_t03_Ch1.ome.tif", "a_1d1_7_t3_Ch1.ome.tif"]] * 2


def test_other_models_have_no_tracks_and_all_say_how_they_read_them(client):
    [known] = client.get("/models").json()
    assert known["tracks"] == {
        "group": ["medium", "day", "run"], "label": "medium", "values": ["a", "o", "n", "nt3"],
        "track": "object", "time": "hour",
        "correlation": EVIDENCE.correlation, "scale": EVIDENCE.scale,
    }  # fmt: skip


def test_a_response_with_tracks_can_be_exported(client):
    answer = client.post("/classify_batch", files=upload(c7=[0, 6])).raise_for_status().json()
    assert client.post("/export?format=csv", json=answer).raise_for_status().text.count("a_1d1_7") == 2


def test_a_cell_counts_once_in_the_composition(client):
    [one, *rest] = [("files", (f"a_1d1_{i}_t0_Ch1.ome.tif", tiff(typical(i)))) for i in range(12)]
    again = [("files", (f"a_1d1_0_t{hour}_Ch1.ome.tif", one[1][1])) for hour in range(1, 60)]
    alone, followed = (
        client.post("/classify_batch", files=files).raise_for_status().json()
        for files in ([one, *rest], [one, *again, *rest])
    )
    assert (alone["sample"]["cells"], followed["sample"]["cells"]) == (12, 71)
    assert len(followed["tracks"]) == 1
    for name, share in alone["sample"]["composition"].items():
        # One cell of twelve, by itself or surer of its class after sixty images; not sixty of seventy-one.
        assert followed["sample"]["composition"][name]["share"] == pytest.approx(share["share"], abs=0.1)
        assert followed["samples"][0]["composition"][name]["share"] == pytest.approx(share["share"], abs=0.1)
