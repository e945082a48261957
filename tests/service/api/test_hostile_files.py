"""A file that ends, stops or fills what decodes it is refused, and all other cells are answered."""

import dataclasses
import io
import sys
import zipfile
from functools import partial

import pytest
import tifffile

from fatescope import processes
from fatescope.guarded_pool import GuardedPool
from service.inference.page_decoder import PageDecoder
from tests.support import damage, hostile, native
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected

COMPRESSED = tiff(typical(0), compression="zlib")
FATAL = ["exit", "segfault", *(["memory"] if sys.platform == "linux" else [])]


@pytest.fixture(scope="module")
def client(bundles, tmp_path_factory):
    pool = GuardedPool(2, [hostile.__name__], limit_s=3.0)
    with application(tmp_path_factory.mktemp("application"), bundles) as app:
        state = app.state.service
        pages = PageDecoder(pool, hostile.decode_pages, hostile.decode_stored, hostile.expand)
        for model in state.models:
            model.decoder.pages = pages
        app.state.service = dataclasses.replace(state, pages=pages)
        with connected(app) as client:
            yield client
    pool.close()


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch):
    monkeypatch.setattr(processes, "TICK_S", 0.05)


archive = partial(damage.archive, compression=zipfile.ZIP_STORED)


def test_hostile_files_of_a_batch_are_refused_and_all_others_are_answered(client):
    files = {f"{i}.tif": tiff(typical(i), compression=("zlib", None)[i % 2]) for i in range(20)}
    names = sorted([*files, *(f"5 {name}.tif" for name in FATAL)])
    cells = client.post(
        "/classify_batch", content=archive({name: files.get(name, COMPRESSED) for name in names})
    ).json()["cells"]
    assert [cell["file"] for cell in cells] == names
    assert {cell["file"]: cell["error"]["code"] for cell in cells if "error" in cell} == {
        f"5 {name}.tif": "decoder" for name in FATAL
    }
    assert all(cell["label"] for cell in cells if "error" not in cell)


@pytest.mark.slow
def test_a_file_that_never_ends_is_refused_for_that(client):
    cells = client.post("/classify_batch", content=archive({"a.tif": COMPRESSED, "hang.tif": COMPRESSED})).json()[
        "cells"
    ]
    assert cells[0]["label"]
    assert cells[1]["error"]["code"] == "too_slow"
    assert "hang.tif: decoding it did not come to an end" in cells[1]["error"]["message"]


@pytest.mark.parametrize("name", FATAL)
def test_a_hostile_cell_is_a_bad_request_and_the_next_one_is_answered(client, name):
    response = client.post("/classify", files={"image": (f"{name}.tif", COMPRESSED)})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "decoder"
    assert client.post("/classify", files={"image": ("a.tif", COMPRESSED)}).json()["label"]
    assert client.post("/classify", content=COMPRESSED).json()["label"]


def test_a_bad_page_costs_no_other_page(client):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for seed in range(5):
            writer.write(typical(seed, height=46 if seed == 2 else 45), compression="lzw", metadata=None)
    cells = client.post("/classify_batch", files={"files": ("page 2.tif", buffer.getvalue())}).json()["cells"]
    assert [cell["page"] for cell in cells] == list(range(5))
    assert [cell.get("error", {}).get("code") for cell in cells] == [None, None, "decoder", None, None]


@pytest.mark.parametrize("name", ["exit", *(["memory"] if sys.platform == "linux" else [])])
def test_a_bad_object_of_a_native_file_costs_no_other_object(client, name):
    raw = native.native(native.draw_objects(5))
    cells = client.post("/classify_batch", files={"files": (f"{name}.cif", raw)}).json()["cells"]
    assert [cell["object"] for cell in cells] == list(range(5))
    assert [cell.get("error", {}).get("code") for cell in cells] == [None, None, "decoder", None, None]
    where = {"name": f"{name}.cif", "size": len(raw), "offset": 0}
    sliced = client.post("/classify_slices", params=where, files={"slices": raw}).json()
    assert [cell.get("error", {}).get("code") for cell in sliced["cells"]] == [None, None, "decoder", None, None]
    assert sliced["next"] is None


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_file_of_a_zip_that_takes_its_process_along_costs_no_other_file(client, compression):
    names = ["a.tif", "packed exit.tif", "z.tif"]
    raw = archive(dict.fromkeys(names, COMPRESSED), compression=compression)
    cells = client.post("/classify_batch", content=raw).json()["cells"]
    assert [cell["file"] for cell in cells] == names
    assert [cell.get("error", {}).get("code") for cell in cells] == [None, "decoder", None]


def test_a_damaged_file_of_a_zip_is_refused_in_words(client):
    raw = archive({"a.tif": COMPRESSED}, compression=zipfile.ZIP_BZIP2)
    at = raw.index(b"BZh")
    damaged = raw[: at + 20] + bytes([raw[at + 20] ^ 0xFF]) + raw[at + 21 :]
    [cell] = client.post("/classify_batch", content=damaged).json()["cells"]
    assert cell["error"]["code"] == "zip"
    assert "a.tif: cannot be decompressed" in cell["error"]["message"]


def answered(client, raw):
    """Return the cells that are answered, whose ids must be those of the request and say where they stand in it."""
    response = client.post("/classify_batch?details=true", content=raw).json()
    cells = response["cells"]
    assert [cell.pop("id") for cell in cells] == [f"{response['request_id']}-{i}" for i in range(len(cells))]
    return cells


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_processes_answer_as_the_gateway_would(bundles, tmp_path, client, compression):
    files = {f"{i}.tif": tiff(typical(i), compression="zlib") for i in range(5)}
    raw = archive({**files, "run.cif": native.native(native.draw_objects(3))}, compression=compression)
    with application(tmp_path, bundles, decoders=0) as app, connected(app) as alone:
        expected = answered(alone, raw)
    assert answered(client, raw) == expected
    assert sum("label" in cell for cell in expected) == 8
