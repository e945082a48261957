"""A model of two channels behind the HTTP interface: files of one object are one cell."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fatescope.inference import bundle
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected
from tests.support.native import acquisition_xml, draw_objects, native
from tests.support.untrained import scatter, write_bundle

CHANNELS = {"1": "brightfield", "6": "darkfield"}
CLASSES = ["astrocyte", "oligodendrocyte"]
SEEDS = range(6)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    write_bundle(folder / "binary", "binary", CLASSES, channels=CHANNELS)
    return folder


@pytest.fixture(scope="module")
def client(bundles, tmp_path_factory):
    with application(tmp_path_factory.mktemp("application"), bundles) as app, connected(app) as client:
        yield client


def export(seed, folder="run"):
    """Return name → bytes of the two files of a cell, and of a marker that the model does not use."""
    name = f"{folder}/a_1d1_{seed}_Ch"
    files = {f"{name}1.ome.tif": typical(seed), f"{name}4.ome.tif": typical(99), f"{name}6.ome.tif": scatter(seed)}
    return {name: tiff(pixels) for name, pixels in files.items()}


def archive(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, raw in files.items():
            written.writestr(name, raw)
    return buffer.getvalue()


def expected(bundles, seeds):
    """Return what the model itself says of cells."""
    model = bundle.load(bundles / "binary", threads=1)
    cells = [np.stack([typical(seed), scatter(seed)]) for seed in seeds]
    return [answer.probabilities for answer in model.classify(cells)]


def test_classify_takes_a_part_for_each_channel(client, bundles):
    form = {"image_6": ("x_Ch6.tif", tiff(scatter(3))), "image_1": ("x_Ch1.tif", tiff(typical(3)))}
    response = client.post("/classify", files=form, params={"explain": True}).raise_for_status().json()
    assert response["probabilities"] == pytest.approx(expected(bundles, [3])[0], abs=1e-5)
    assert response["activation_map"]["label"] == response["label"]


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({"content": tiff(typical(0))}, "missing_channel", "the model takes channels 1 and 6 of a cell"),
        (
            {"files": {"image_1": ("x.tif", tiff(typical(0)))}},
            "missing_channel",
            "the parts ['image_1'] where a file 'image_6' was expected; for example: curl -F image_1=@cell_1.tif",
        ),
        (
            {"files": {"image_1": ("a_Ch6.tif", tiff(typical(0))), "image_6": ("a_Ch1.tif", tiff(typical(0)))}},
            "other_channel",
            "a_Ch6.tif: channel 6, but the model was trained on channel 1; send that channel",
        ),
        (
            {"files": {"image_1": ("a", tiff(typical(0))), "image_6": ("b", tiff(typical(0)[:40]))}},
            "channels_differ",
            "channel 6 is 40x60 px (height x width) of 16 bits, but channel 1 is 45x60 px",
        ),
    ],
)
def test_what_is_wrong_with_the_channels_is_answered_with_its_code(client, request_, code, message):
    response = client.post("/classify", **request_)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, code)
    assert message in error["message"]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("packed", [True, False])
def test_files_of_one_object_are_one_cell_in_whatever_order_they_come(client, bundles, packed, order):
    files = dict(list({name: raw for seed in SEEDS for name, raw in export(seed).items()}.items())[::order])
    # All of one channel before all of the other.
    files = dict(sorted(files.items(), key=lambda item: order * int(item[0][-9])))
    request = {"content": archive(files)} if packed else {"files": [("files", file) for file in files.items()]}
    response = client.post("/classify_batch", params={"details": True}, **request).raise_for_status().json()
    assert response["sample"]["cells"] == len(SEEDS)
    assert response["sample"]["refused"] == 0
    assert response["sample"]["other_channels"] == len(SEEDS)
    by_seed = {cell["object"]: cell for cell in response["cells"]}
    for seed, probabilities in zip(SEEDS, expected(bundles, SEEDS), strict=True):
        cell = by_seed[seed]
        assert cell["file"] == f"run/a_1d1_{seed}_Ch1.ome.tif"
        assert cell["probabilities"] == pytest.approx(probabilities, abs=1e-5)
        assert set(cell["thumbnails"]) == {"1", "6"}
        assert cell["thumbnail"] == cell["thumbnails"]["1"] != cell["thumbnails"]["6"]


def test_a_cell_without_a_channel_is_refused_and_the_others_are_answered(client):
    files = export(1) | export(2)
    del files["run/a_1d1_2_Ch6.ome.tif"]
    files["run/cell.tif"] = tiff(typical(0))
    response = client.post("/classify_batch", content=archive(files)).raise_for_status().json()
    assert (response["sample"]["cells"], response["sample"]["refused"]) == (1, 2)
    errors = {cell["file"]: cell["error"] for cell in response["cells"] if "error" in cell}
    assert {error["code"] for error in errors.values()} == {"missing_channel"}
    assert errors["run/a_1d1_2_Ch1.ome.tif"]["message"] == (
        "run/a_1d1_2_Ch1.ome.tif: channel 6 of this object is missing; the model takes channels 1 (brightfield) and "
        "6 (darkfield) of each cell"
    )
    assert "its name says none of its channels" in errors["run/cell.tif"]["message"]


def test_files_of_the_same_names_are_of_other_objects(client):
    """The page sends what is in several zips as loose files."""
    used = {name: raw for name, raw in export(1).items() if "_Ch4" not in name}
    files = [("files", file) for file in [*used.items(), *used.items()]]
    response = client.post("/classify_batch", files=files).raise_for_status().json()
    assert [cell["upload"] for cell in response["cells"]] == [0, 2]
    assert response["sample"]["refused"] == 0


def test_objects_of_two_zips_stay_apart(client):
    files = [("files", (f"{name}.zip", archive(export(seed)))) for name, seed in (("one", 1), ("two", 1))]
    response = client.post("/classify_batch", files=files).raise_for_status().json()
    assert [cell["upload"] for cell in response["cells"]] == [0, 1]
    assert response["sample"]["refused"] == 0


def test_one_channel_of_many_pages_belongs_to_the_same_pages_of_the_other(client, bundles):
    stacks = {"s_Ch1.tif": [typical(seed) for seed in SEEDS], "s_Ch6.tif": [scatter(seed) for seed in SEEDS]}
    form = [("files", (name, tiff(np.stack(pages)))) for name, pages in stacks.items()]
    cells = client.post("/classify_batch", files=form).raise_for_status().json()["cells"]
    assert [cell["page"] for cell in cells] == list(SEEDS)
    for cell, probabilities in zip(cells, expected(bundles, SEEDS), strict=True):
        assert cell["probabilities"] == pytest.approx(probabilities, abs=1e-5)
    form[1] = ("files", ("s_Ch6.tif", tiff(np.stack(stacks["s_Ch6.tif"][:2]))))
    [cell] = client.post("/classify_batch", files=form).raise_for_status().json()["cells"]
    assert cell["error"]["code"] == "channels_differ"
    assert "the pages are 6 of channel 1, 2 of channel 6" in cell["error"]["message"]


def test_models_names_the_channels_and_their_figures(client):
    [info] = client.get("/models").raise_for_status().json()
    assert info["channels"] == CHANNELS
    assert info["channel"] == "1"
    assert {"focus", "focus_6"} <= set(info["figures"])


def test_examples_come_with_all_channels_and_are_classified(client):
    raw = client.get("/sample/binary").raise_for_status().content
    with zipfile.ZipFile(io.BytesIO(raw)) as packed:
        assert packed.namelist()[:2] == ["example/cell_1_Ch1.tif", "example/cell_1_Ch6.tif"]
    response = client.post("/classify_batch", content=raw).raise_for_status().json()
    assert (response["sample"]["cells"], response["sample"]["refused"]) == (4, 0)


def test_a_correction_keeps_all_channels(bundles, tmp_path):
    with application(tmp_path, bundles) as app, connected(app) as client:
        files = [("image", file) for file in reversed(list(export(2).items())) if "_Ch4" not in file[0]]
        form = {"label": "oligodendrocyte", "keep_image": "true"}
        stored = client.post("/feedback", files=files, data=form).raise_for_status().json()
        assert stored["kept"]
        kept = sorted(path.name for path in Path(tmp_path / "feedback").rglob("*.ome.tif"))
        assert kept == ["o_1d1_2_Ch1.ome.tif", "o_1d1_2_Ch6.ome.tif"]
        lost = client.post("/feedback", files=files[:1], data=form)
        assert lost.json()["error"]["code"] == "missing_channel"


def test_records_have_the_figures_of_each_channel(bundles, tmp_path):
    with application(tmp_path, bundles) as app, connected(app) as client:
        client.post("/classify_batch", content=archive(export(1))).raise_for_status()
    [path] = (tmp_path / "records").rglob("*.parquet")
    [row] = pd.read_parquet(path).to_dict("records")
    assert row["mean"] == pytest.approx(typical(1).mean(), rel=1e-4)
    assert row["mean_6"] == pytest.approx(scatter(1).mean(), rel=1e-4)


def test_a_native_file_gives_all_channels_of_its_objects(client, bundles):
    objects = draw_objects(3, channels=(1, 6))
    raw = native(objects, xml=acquisition_xml(channels=(1, 6), brightfield=(1,)))
    without = native(draw_objects(2), xml=acquisition_xml())
    files = [("files", ("a_1d1.cif", raw)), ("files", ("b_1d1.cif", without))]
    response = client.post("/classify_batch", params={"details": True}, files=files).raise_for_status().json()
    *cells, refused = response["cells"]
    model = bundle.load(bundles / "binary", threads=1)
    for cell, (pixels, _), answer in zip(cells, objects, model.classify([o for o, _ in objects]), strict=True):
        assert cell["probabilities"] == pytest.approx(answer.probabilities, abs=1e-5)
        assert set(cell["thumbnails"]) == {"1", "6"}
        assert cell["figures"][10] == pytest.approx(pixels[1].mean(), rel=1e-4)  # the third figure of channel 6
    assert refused["error"]["code"] == "missing_channel"
    query = {"name": "a_1d1.cif", "size": len(raw), "offset": 0, "details": True}
    in_slices = client.post("/classify_slices", params=query, content=raw).raise_for_status().json()["cells"]
    assert [cell["thumbnails"] for cell in in_slices] == [cell["thumbnails"] for cell in cells]
