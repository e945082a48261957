"""Many cells in a request, and the formats of the answer."""

import io
import json
import zipfile

import fcsparser
import httpx
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tifffile import TiffWriter

from fatescope.data import images
from fatescope.inference import bundle, uncertainty
from tests.support.bundles import CANVAS, CLASSES
from tests.support.images import tiff, typical

pytestmark = pytest.mark.slow

CELLS = [typical(seed) for seed in range(20)]


def packed(files, **how):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **how) as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return buffer.getvalue()


NOISE = [np.random.default_rng(seed).integers(0, 4000, (45, 60), np.uint16) for seed in range(2)]
ODD = {f"c{i}.tif": each for i, each in enumerate(CELLS)} | {f"n{i}.tif": each for i, each in enumerate(NOISE)}
EXPORT = {f"run/a_1d1_{i}_Ch1.ome.tif": tiff(pixels) for i, pixels in enumerate(CELLS)}


def ask(client, **how):
    return client.post("/classify_batch", **how).raise_for_status().json()


def test_a_zip_is_answered_cell_by_cell_as_single_images_are(client):
    answer = ask(client, content=packed(EXPORT))
    assert [each["file"] for each in answer["cells"]] == list(EXPORT)
    assert [each["object"] for each in answer["cells"]] == list(range(20))
    for each in answer["cells"]:
        alone = client.post("/classify", content=EXPORT[each["file"]]).json()
        same = ("label", "conformal_set", "verdict", "warnings")
        assert {name: each[name] for name in same} == {name: alone[name] for name in same}
        assert list(each["probabilities"].values()) == pytest.approx(list(alone["probabilities"].values()), abs=1e-5)


def test_files_a_zip_and_pages_are_the_same_to_it(client):
    def said(**how):
        return np.array([list(each["probabilities"].values()) for each in ask(client, **how)["cells"]])

    same = [CELLS[0]] * 5
    by_pages = said(content=tiff(np.stack(same), photometric="minisblack"))
    np.testing.assert_array_equal(by_pages, said(files=[("files", (f"{i}.tif", tiff(CELLS[0]))) for i in range(5)]))
    np.testing.assert_array_equal(
        by_pages, said(files={"files": packed({f"{i}.tif": tiff(CELLS[0]) for i in range(5)})})
    )
    pages = ask(client, files={"files": ("a_1d1_7_Ch1.ome.tif", tiff(np.stack(same), photometric="minisblack"))})
    assert [(each["page"], each["object"]) for each in pages["cells"]] == [(i, 7) for i in range(5)]


def test_a_bad_file_costs_only_itself_and_other_channels_are_no_fault(client):
    bad = {
        "run/b_1d1_1_Ch1.ome.tif": b"",
        "run/b_1d1_2_Ch1.ome.tif": tiff(CELLS[0])[:-50],
        "run/b_1d1_3_Ch1.ome.tif": tiff((CELLS[0] >> 4).astype(np.uint8)),
        "run/notes.txt": b"fed on monday",
    }
    others = {f"run/a_1d1_{i}_Ch4.ome.tif": tiff(CELLS[0]) for i in range(3)}
    hidden = {"run/.DS_Store": b"x", "__MACOSX/run/._a.tif": b"x", "run/": b""}
    answer = ask(client, content=packed({**bad, **others, **hidden, **EXPORT}))
    codes = {each["file"]: each["error"]["code"] for each in answer["cells"] if each.get("error")}
    assert list(codes.values()) == ["empty", "truncated", "bit_depth", "not_an_image"]
    assert list(codes) == list(bad)
    assert all(each["error"]["message"].startswith(each["file"]) for each in answer["cells"] if each.get("error"))
    sample = answer["sample"]
    assert (sample["cells"], sample["refused"], sample["other_channels"]) == (20, 4, 3)
    assert sum(sample[verdict] for verdict in ("sure", "unsure", "unlike_training")) == 20


def test_what_the_sample_is_made_of(client, bundles):
    answer = ask(client, content=packed({name: tiff(pixels) for name, pixels in ODD.items()}))
    model = bundle.load(bundles / "multiclass", threads=1)
    judged = model.assess(model.predict(np.stack([images.center(each, CANVAS, "x") for each in ODD.values()])))
    like = judged.probabilities[judged.verdicts != uncertainty.UNLIKE]
    sample = answer["sample"]
    assert sample["called"] == {name: sum(each["label"] == name for each in answer["cells"]) for name in CLASSES}
    assert 0 < len(like) < len(ODD), "some cells are unlike, and do not count"
    expected = model.compose(like)
    found = [sample["composition"][name] for name in CLASSES]
    assert [each["share"] for each in found] == pytest.approx(expected.shares.tolist(), abs=1e-4)
    assert all(each["low"] <= each["share"] <= each["high"] for each in found)
    assert sum(each["share"] for each in found) == pytest.approx(1)
    assert sample["unlike_training"] == 2
    assert {each["file"] for each in answer["cells"] if each["verdict"] == "unlike_training"} == {"n0.tif", "n1.tif"}


def test_without_a_readable_cell_there_is_no_composition(client):
    answer = ask(client, content=packed({"a.tif": b"x"}))
    assert answer["sample"]["composition"] is None
    assert answer["sample"]["cells"] == 0


def test_csv_and_parquet_have_a_row_a_cell(client):
    body = packed({"=cmd.tif": b"x", **EXPORT})
    told = ask(client, content=body)
    by_name = client.post("/classify_batch", params={"format": "csv"}, content=body)
    assert by_name.headers["content-type"].startswith("text/csv")
    assert "fatescope-multiclass.csv" in by_name.headers["content-disposition"]
    table = pd.read_csv(io.BytesIO(by_name.content))
    assert table["file"][0] == "'=cmd.tif"
    assert table["error"][0] == "not_an_image"
    accept = {"accept": "application/vnd.apache.parquet"}
    parquet = client.post("/classify_batch", headers=accept, content=body).content
    rows = pd.read_parquet(io.BytesIO(parquet))
    assert rows["file"][0] == "=cmd.tif"
    for each in (table, rows):
        assert each["label"][1:].tolist() == [cell["label"] for cell in told["cells"][1:]]
        assert each["p_RA/SHH"][1:].tolist() == pytest.approx(
            [cell["probabilities"]["RA/SHH"] for cell in told["cells"][1:]]
        )
    about = json.loads(pq.read_table(io.BytesIO(parquet)).schema.metadata[b"fatescope"])
    assert about["sample"] == told["sample"]


@pytest.mark.filterwarnings("ignore")  # of the reader, which is older than its parts
def test_fcs_is_read_by_an_independent_reader(client, tmp_path):
    body = packed({"bad.tif": b"x", **EXPORT})
    told = ask(client, content=body)["cells"]
    path = tmp_path / "cells.fcs"
    path.write_bytes(client.post("/classify_batch", params={"format": "fcs"}, content=body).raise_for_status().content)
    about, events = fcsparser.parse(path, reformat_meta=True)
    assert len(events) == 20
    assert list(events.columns) == ["event", "object", *(f"p_{name}" for name in CLASSES), "label", "verdict"]
    assert events["event"].tolist() == list(range(1, 21))
    assert events["object"].tolist() == list(range(20))
    for name in CLASSES:
        assert events[f"p_{name}"].tolist() == pytest.approx([cell["probabilities"][name] for cell in told[1:]])
    assert [CLASSES[int(i)] for i in events["label"]] == [cell["label"] for cell in told[1:]]
    assert about["FATESCOPE_CLASSES"].split(";") == CLASSES
    empty = client.post("/classify_batch", params={"format": "fcs"}, content=b"x")
    assert (empty.status_code, empty.json()["error"]["code"]) == (400, "no_cells")


def test_a_format_that_it_does_not_have_is_refused_and_anything_is_json(client):
    picture = client.post("/classify_batch", headers={"accept": "image/png"}, content=tiff(CELLS[0]))
    assert (picture.status_code, picture.json()["error"]["code"]) == (406, "not_acceptable")
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    assert ask(client, headers={"accept": browser}, content=tiff(CELLS[0]))["sample"]["cells"] == 1


def refused(client, **how):
    answer = client.post("/classify_batch", **how)
    return answer.status_code, answer.json()["error"]["code"]


def test_zips_that_are_too_much_are_refused_before_they_are_unpacked(client):
    bomb = packed({f"{i}.tif": bytes(190_000_000) for i in range(11)}, compresslevel=1)
    assert len(bomb) < 20_000_000
    assert refused(client, content=bomb) == (413, "zip_too_large")
    assert refused(client, content=packed({f"{i}.tif": b"" for i in range(20_001)})) == (413, "too_many_files")
    others = {f"a_1d1_{i}_Ch4.ome.tif": b"" for i in range(20_001)}
    whole = ask(client, content=packed({**EXPORT, **others}))["sample"]
    assert (whole["cells"], whole["other_channels"]) == (20, 20_001), "a whole export has four files a cell"
    assert refused(client, files={"files": (None, "a text")}) == (400, "missing_image")


def test_zips_that_are_damaged_or_closed_say_so(client):
    whole = packed(EXPORT)
    answer = ask(client, files={"files": ("cells.zip", whole[: len(whole) // 2])})
    assert [each["error"]["code"] for each in answer["cells"]] == ["zip"]
    locked = bytearray(packed({"a.tif": tiff(CELLS[0])}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.find(magic) + offset] |= 1
    answer = ask(client, content=bytes(locked))
    assert "without a password" in answer["cells"][0]["error"]["message"]
    spoiled = bytearray(whole)
    at = spoiled.find(b"a_1d1_3_Ch1") + 100
    spoiled[at : at + 200] = bytes(200)
    codes = [(each.get("error") or {}).get("code") for each in ask(client, content=bytes(spoiled))["cells"]]
    assert codes == [None, None, None, "zip", *[None] * 16]


def test_a_file_of_countless_pages_that_share_their_bytes_is_refused(client):
    page = tiff(np.zeros((1000, 1000), np.uint8), compression="zlib")
    many = io.BytesIO()
    with TiffWriter(many) as writer:
        for _ in range(101):
            writer.write(np.zeros((1000, 1000), np.uint8), compression="zlib", contiguous=False, metadata=None)
    assert len(page) < 5000
    answer = ask(client, content=many.getvalue())
    assert [each["error"]["code"] for each in answer["cells"]] == ["too_large"]
    assert "101 pages announce" in answer["cells"][0]["error"]["message"]


def test_a_client_that_leaves_does_not_stop_the_others(client):
    pages = tiff(np.stack([CELLS[0]] * 3000), photometric="minisblack")
    with pytest.raises(httpx.ReadTimeout):
        client.post("/classify_batch", content=pages, timeout=0.5)
    assert ask(client, content=packed(EXPORT))["sample"]["cells"] == 20
