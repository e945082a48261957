"""Many cells in a request, and the formats of the response."""

import io
import json
import struct
import zipfile

import fcsparser
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tifffile import TiffWriter

from fatescope.data import images
from fatescope.data.crops import center
from fatescope.inference import bundle, uncertainty
from service.inference import classify_batch
from tests.support.bundles import CANVAS, CLASSES
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected

CELLS = [typical(seed) for seed in range(20)]
NOISE = [np.random.default_rng(seed).integers(0, 4000, (45, 60), np.uint16) for seed in range(2)]
MIXED = {f"c{i}.tif": pixels for i, pixels in enumerate(CELLS)} | {
    f"n{i}.tif": pixels for i, pixels in enumerate(NOISE)
}
EXPORT = {f"run/a_1d1_{i}_Ch1.ome.tif": tiff(pixels) for i, pixels in enumerate(CELLS)}


def archive(files):
    """Return a zip archive of name → bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as written:
        for name, raw in files.items():
            written.writestr(name, raw)
    return buffer.getvalue()


def bomb(files, announced):
    """Return a small zip archive whose directory announces `files` files of `announced` bytes each."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for i in range(files):
            written.writestr(f"{i}.tif", b"x")
            written.getinfo(f"{i}.tif").file_size = announced
    return buffer.getvalue()


def classify(client, **request):
    return client.post("/classify_batch", **request).raise_for_status().json()


def error(client, **request):
    response = client.post("/classify_batch", **request)
    return response.status_code, response.json()["error"]["code"]


def test_the_cells_of_an_archive_get_the_predictions_of_single_images(client):
    response = classify(client, content=archive(EXPORT))
    assert [cell["file"] for cell in response["cells"]] == list(EXPORT)
    assert [cell["object"] for cell in response["cells"]] == list(range(20))
    for cell in response["cells"]:
        alone = client.post("/classify", content=EXPORT[cell["file"]]).json()
        for field in ("label", "conformal_set", "verdict", "warnings"):
            assert cell[field] == alone[field]
        assert list(cell["probabilities"].values()) == pytest.approx(list(alone["probabilities"].values()), abs=1e-5)


def test_files_an_archive_and_pages_give_the_same_predictions(client):
    def probabilities(**request):
        return np.array([list(cell["probabilities"].values()) for cell in classify(client, **request)["cells"]])

    pages, single = tiff(np.stack([CELLS[0]] * 5), photometric="minisblack"), tiff(CELLS[0])
    expected = probabilities(content=pages)
    files = [("files", (f"{i}.tif", single)) for i in range(5)]
    np.testing.assert_array_equal(probabilities(files=files), expected)
    packed = archive({f"{i}.tif": single for i in range(5)})
    np.testing.assert_array_equal(probabilities(files={"files": packed}), expected)
    response = classify(client, files={"files": ("a_1d1_7_Ch1.ome.tif", pages)})
    assert [(cell["page"], cell["object"]) for cell in response["cells"]] == [(i, 7) for i in range(5)]


def test_bad_files_are_reported_and_other_channels_are_left_out(client):
    bad = {
        "run/b_1d1_1_Ch1.ome.tif": b"",
        "run/b_1d1_2_Ch1.ome.tif": tiff(CELLS[0])[:-50],
        "run/b_1d1_3_Ch1.ome.tif": tiff((CELLS[0] >> 4).astype(np.uint8)),
        "run/notes.txt": b"fed on monday",
    }
    others = {f"run/a_1d1_{i}_Ch4.ome.tif": tiff(CELLS[0]) for i in range(3)}
    hidden = {"run/.DS_Store": b"x", "__MACOSX/run/._a.tif": b"x", "run/": b""}
    response = classify(client, content=archive({**bad, **others, **hidden, **EXPORT}))
    errors = {cell["file"]: cell["error"] for cell in response["cells"] if cell.get("error")}
    assert [problem["code"] for problem in errors.values()] == ["empty", "truncated", "bit_depth", "not_an_image"]
    assert list(errors) == list(bad)
    assert all(problem["message"].startswith(file) for file, problem in errors.items())
    sample = response["sample"]
    assert (sample["cells"], sample["refused"], sample["other_channels"]) == (20, 4, 3)
    assert sum(sample[verdict] for verdict in ("sure", "unsure", "unlike_training")) == 20


def test_the_composition_agrees_with_the_bundle_and_leaves_out_unlike_cells(client, bundles):
    response = classify(client, content=archive({name: tiff(pixels) for name, pixels in MIXED.items()}))
    model = bundle.load(bundles / "multiclass", threads=1)
    pixels = np.stack([center(cell, CANVAS, "x") for cell in MIXED.values()])
    assessment = model.assess(model.predict(pixels))
    like = assessment.probabilities[assessment.verdicts != uncertainty.UNLIKE]
    sample = response["sample"]
    assert sample["called"] == {name: sum(cell["label"] == name for cell in response["cells"]) for name in CLASSES}
    assert 0 < len(like) < len(MIXED), "some cells are unlike the training cells"
    expected = model.compose(like)
    composition = [sample["composition"][name] for name in CLASSES]
    assert [row["share"] for row in composition] == pytest.approx(expected.shares.tolist(), abs=1e-4)
    assert all(row["low"] <= row["share"] <= row["high"] for row in composition)
    assert sum(row["share"] for row in composition) == pytest.approx(1)
    assert sample["unlike_training"] == 2
    unlike = {cell["file"] for cell in response["cells"] if cell["verdict"] == "unlike_training"}
    assert unlike == {"n0.tif", "n1.tif"}


def test_details_can_be_summarised_again(client):
    body = archive({name: tiff(pixels) for name, pixels in MIXED.items()})
    response = classify(client, params={"details": True}, content=body)
    assert all(cell["thumbnail"] for cell in response["cells"])
    cells = [
        {"probabilities": list(cell["probabilities"].values()), "verdict": cell["verdict"], "figures": cell["figures"]}
        for cell in response["cells"]
    ]
    summary = client.post("/summarise", json={"cells": cells}).raise_for_status().json()
    for name, row in response["sample"]["composition"].items():
        assert summary["composition"][name] == pytest.approx(row)
    brighter = [{**cell, "figures": [10 * figure for figure in cell["figures"]]} for cell in cells]
    differences = client.post("/summarise", json={"cells": brighter}).raise_for_status().json()["differences"]
    assert "background" in {difference["figure"] for difference in differences}
    assert differences[0]["distance"] == max(difference["distance"] for difference in differences)
    short = client.post("/summarise", json={"cells": [{**cells[0], "figures": [1.0]}]})
    assert (short.status_code, short.json()["error"]["code"]) == (422, "parameters")


def test_without_a_classified_cell_there_is_no_composition(client):
    response = classify(client, content=archive({"a.tif": b"x"}))
    assert response["sample"]["composition"] is None
    assert response["sample"]["cells"] == 0


def test_csv_and_parquet_have_one_row_per_cell(client):
    body = archive({"=cmd.tif": b"x", **EXPORT})
    expected = classify(client, content=body)
    csv = client.post("/classify_batch", params={"format": "csv"}, content=body)
    assert csv.headers["content-type"].startswith("text/csv")
    assert "fatescope-multiclass.csv" in csv.headers["content-disposition"]
    table = pd.read_csv(io.BytesIO(csv.content))
    assert table["file"][0] == "'=cmd.tif"
    assert table["error"][0] == "not_an_image"
    accept = {"accept": "application/vnd.apache.parquet"}
    parquet = client.post("/classify_batch", headers=accept, content=body).content
    rows = pd.read_parquet(io.BytesIO(parquet))
    assert rows["file"][0] == "=cmd.tif"
    for read in (table, rows):
        assert read["label"][1:].tolist() == [cell["label"] for cell in expected["cells"][1:]]
        assert read["p_RA/SHH"][1:].tolist() == pytest.approx(
            [cell["probabilities"]["RA/SHH"] for cell in expected["cells"][1:]]
        )
    metadata = json.loads(pq.read_table(io.BytesIO(parquet)).schema.metadata[b"fatescope"])
    assert metadata["sample"] == expected["sample"]
    exported = client.post("/export", params={"format": "csv"}, json=expected).raise_for_status()
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(exported.content)), table)


@pytest.mark.filterwarnings("ignore")  # of the reader, which is older than its dependencies
def test_an_independent_reader_reads_the_fcs_file(client, tmp_path):
    body = archive({"bad.tif": b"x", **EXPORT})
    expected = classify(client, content=body)["cells"]
    path = tmp_path / "cells.fcs"
    path.write_bytes(client.post("/classify_batch", params={"format": "fcs"}, content=body).raise_for_status().content)
    metadata, events = fcsparser.parse(path, reformat_meta=True)
    assert len(events) == 20
    assert list(events.columns) == ["event", "object", *(f"p_{name}" for name in CLASSES), "label", "verdict"]
    assert events["event"].tolist() == list(range(1, 21))
    assert events["object"].tolist() == list(range(20))
    for name in CLASSES:
        assert events[f"p_{name}"].tolist() == pytest.approx([cell["probabilities"][name] for cell in expected[1:]])
    assert [CLASSES[int(i)] for i in events["label"]] == [cell["label"] for cell in expected[1:]]
    assert metadata["FATESCOPE_CLASSES"].split(";") == CLASSES
    empty = client.post("/classify_batch", params={"format": "fcs"}, content=b"x")
    assert (empty.status_code, empty.json()["error"]["code"]) == (400, "no_cells")


def test_an_unknown_format_is_rejected_and_the_default_is_json(client):
    assert error(client, headers={"accept": "image/png"}, content=tiff(CELLS[0])) == (406, "not_acceptable")
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    assert classify(client, headers={"accept": browser}, content=tiff(CELLS[0]))["sample"]["cells"] == 1


def test_archives_that_are_too_large_are_rejected_before_they_are_decompressed(client):
    assert error(client, content=bomb(files=11, announced=190_000_000)) == (413, "zip_too_large")
    assert error(client, content=archive({f"{i}.tif": b"" for i in range(20_001)})) == (413, "too_many_files")
    others = {f"a_1d1_{i}_Ch4.ome.tif": b"" for i in range(20_001)}
    sample = classify(client, content=archive({**EXPORT, **others}))["sample"]
    assert (sample["cells"], sample["other_channels"]) == (20, 20_001), "a complete export has four files per cell"
    assert error(client, files={"files": (None, "a text")}) == (400, "missing_image")


def test_damaged_and_encrypted_archives_are_reported(client):
    whole = archive(EXPORT)
    response = classify(client, files={"files": ("cells.zip", whole[: len(whole) // 2])})
    assert [cell["error"]["code"] for cell in response["cells"]] == ["zip"]
    encrypted = bytearray(archive({"a.tif": tiff(CELLS[0])}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.find(magic) + offset] |= 1
    response = classify(client, content=bytes(encrypted))
    assert "without a password" in response["cells"][0]["error"]["message"]
    damaged = bytearray(whole)
    start = damaged.find(b"a_1d1_3_Ch1") + 100
    damaged[start : start + 200] = bytes(200)
    response = classify(client, content=bytes(damaged))
    codes = [(cell.get("error") or {}).get("code") for cell in response["cells"]]
    assert codes == [None, None, None, "zip", *[None] * 16]


def countless(pages):
    """Return a TIFF whose directories, of 114 bytes each, all point to the same cell of 8x8 px."""
    order, size = "<", 2 + 12 * 9 + 4
    body, pixels = io.BytesIO(), 8
    body.write(struct.pack("<2sHI", b"II", 42, 8 + 128))
    body.write(bytes(range(128)))
    for page in range(pages):
        tags = [(256, 3, 8), (257, 3, 8), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, pixels), (277, 3, 1),
                (278, 3, 8), (279, 4, 128)]  # fmt: skip
        body.write(struct.pack(order + "H", len(tags)))
        for tag, kind, value in tags:
            body.write(struct.pack(order + "HHII", tag, kind, 1, value))
        start = 8 + 128 + (page + 1) * size
        body.write(struct.pack(order + "I", start if page + 1 < pages else 0))
    return body.getvalue()


@pytest.fixture(scope="module")
def limited(bundles, tmp_path_factory):
    """A client of a service whose requests may have 10 cells."""
    with (
        application(tmp_path_factory.mktemp("limited"), bundles, max_cells=10) as app,
        connected(app) as client,
    ):
        yield client


def test_a_request_may_have_so_many_cells(limited):
    pages = tiff(np.stack([CELLS[0]] * 6), photometric="minisblack")
    assert classify(limited, content=archive(dict(list(EXPORT.items())[:10])))["sample"]["cells"] == 10
    others = {f"a_1d1_{i}_Ch4.ome.tif": b"" for i in range(30)}
    mixed = {**others, "pages.tif": pages, "a.tif": tiff(CELLS[1]), "b.tif": b"no image"}
    sample = classify(limited, content=archive(mixed))["sample"]
    assert (sample["cells"], sample["refused"], sample["other_channels"]) == (7, 1, 30)
    for files in (
        dict(list(EXPORT.items())[:11]),
        {"a.tif": pages, "b.tif": pages},
        {f"{i}.tif": b"no image" for i in range(11)},
    ):
        response = limited.post("/classify_batch", content=archive(files))
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "too_many_cells"
        assert "the request has more than 10 cells; send the cells in several requests" in response.text


@pytest.mark.parametrize("pages", [20_001, 150_000])
def test_pages_that_cost_a_hundred_bytes_each_are_counted_before_any_is_decoded(client, pages, monkeypatch):
    raw = countless(pages)
    assert len(raw) / pages < 120
    monkeypatch.setattr(images, "decode_pages", None)
    assert error(client, content=raw) == (413, "too_many_cells")
    monkeypatch.undo()
    assert classify(client, content=countless(300))["sample"]["cells"] == 300


def test_a_file_of_countless_pages_that_share_their_bytes_is_rejected(client):
    page = tiff(np.zeros((1000, 1000), np.uint8), compression="zlib")
    many = io.BytesIO()
    with TiffWriter(many) as writer:
        for _ in range(101):
            writer.write(np.zeros((1000, 1000), np.uint8), compression="zlib", contiguous=False, metadata=None)
    assert len(page) < 5000
    response = classify(client, content=many.getvalue())
    assert [cell["error"]["code"] for cell in response["cells"]] == ["too_large"]
    assert "101 pages announce" in response["cells"][0]["error"]["message"]


def test_few_chunks_of_a_request_wait_at_a_time(client, monkeypatch):
    """However many cells it has, so that its memory is bounded and others are answered in between."""
    waiting, most, collect = [], [], classify_batch._Results.collect

    async def collecting(results, chunk):
        await collect(results, chunk)
        waiting.remove(chunk)

    def send(*args):
        waiting.append(sent(*args))
        most.append(len(waiting))
        return waiting[-1]

    sent = classify_batch._Chunk.send
    monkeypatch.setattr(classify_batch, "CHUNK", 2)
    monkeypatch.setattr(classify_batch._Chunk, "send", send)
    monkeypatch.setattr(classify_batch._Results, "collect", collecting)
    pages = tiff(np.stack([typical(0)] * 20), photometric="minisblack")
    assert client.post("/classify_batch", content=pages).raise_for_status().json()["sample"]["cells"] == 20
    assert (len(most), max(most), waiting) == (10, classify_batch.MAX_CHUNKS_IN_FLIGHT, [])
