"""Zips and names in a request for many cells: what is read, what is refused, and which sample it is of."""

import io
import json
import zipfile

import flowio
import numpy as np
import pandas as pd
import pytest

from fatescope.data import archives
from service.api.archive import pack
from tests.support.bundles import CLASSES
from tests.support.images import tiff, typical
from tests.support.project import SHARED
from tests.support.zips import archive, encrypted

CELL = tiff(typical(0))


def classify(client, **request):
    return client.post("/classify_batch", **request).raise_for_status().json()


def parts(**zips):
    """Return the parts of a form with zips of these names."""
    return [("files", (f"{name}.zip", whole)) for name, whole in zips.items()]


def case(name):
    path = SHARED / "cases" / name
    if not path.exists():
        pytest.skip(f"the failing cases are not here: {path}")
    return path.read_bytes()


def outcome(response):
    """Return file → class or error code."""
    return {cell["file"]: cell.get("label") or cell["error"]["code"] for cell in response["cells"]}


def test_two_zips_with_the_same_names_are_two_samples(client):
    days = {"day1": [typical(i) for i in range(3)], "day3": [typical(i) for i in range(3, 6)]}
    zips = {
        day: archive([(f"{i}_Ch1.ome.tif", tiff(pixels)) for i, pixels in enumerate(cells)])
        for day, cells in days.items()
    }
    response = classify(client, files=parts(**zips))
    named = [(cell["sample"], cell["file"], cell["upload"]) for cell in response["cells"]]
    assert named == [(day, f"{i}_Ch1.ome.tif", upload) for upload, day in enumerate(days) for i in range(3)]
    for upload, (day, whole) in enumerate(zips.items()):
        alone = classify(client, content=whole)
        got = [cell for cell in response["cells"] if cell["upload"] == upload]
        assert [cell["label"] for cell in got] == [cell["label"] for cell in alone["cells"]]
        for one, other in zip(got, alone["cells"], strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
        [summary] = [sample for sample in response["samples"] if sample["sample"] == day]
        assert (summary["cells"], summary["refused"], summary["called"]) == (3, 0, alone["sample"]["called"])
        for name, share in alone["sample"]["composition"].items():
            assert summary["composition"][name] == pytest.approx(share, abs=1e-4)


def test_the_two_samples_of_the_case_are_told_apart(client):
    zips = {name: case(f"{name}.zip") for name in ("two_samples_day1", "two_samples_day3")}
    response = classify(client, files=parts(**zips))
    assert [cell["sample"] for cell in response["cells"]] == ["two_samples_day1"] * 3 + ["two_samples_day3"] * 3
    assert [cell["file"] for cell in response["cells"]] == [f"{i}_Ch1.ome.tif" for i in range(3)] * 2


def test_samples_of_folders_and_loose_files(client):
    whole = archive([(f"export/run_{run}/{i}.tif", CELL) for run in (1, 2) for i in range(2)])
    assert [cell["sample"] for cell in classify(client, content=whole)["cells"]] == ["run_1"] * 2 + ["run_2"] * 2
    loose = classify(client, files=[("files", (f"{i}.tif", CELL)) for i in range(2)])
    assert [(cell["sample"], cell["upload"]) for cell in loose["cells"]] == [(None, 0), (None, 1)]
    assert [summary["sample"] for summary in loose["samples"]] == [None]


def test_a_loose_file_is_called_as_the_client_calls_it(client):
    names = ["run\\a_1d1_7_Ch1.ome.tif", "Gro\u0308ße/8_Ch1.tif"]
    response = classify(client, files=[("files", (name, CELL)) for name in names])
    assert [(cell["file"], cell["sample"], cell["object"]) for cell in response["cells"]] == [
        (names[0], "run", 7),
        (names[1], "Größe", 8),
    ]


def test_zips_of_the_same_name_are_two_samples(client):
    whole = archive([("0.tif", CELL)])
    response = classify(client, files=[("files", ("day.zip", whole)), ("files", ("day.zip", whole))])
    assert [cell["sample"] for cell in response["cells"]] == ["day", "day (2)"]


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_a_marker_channel_is_never_taken_for_brightfield(client, separator):
    names = [f"export{separator}a_1d1{separator}{i}_Ch{channel}.ome.tif" for i in range(2) for channel in range(1, 5)]
    response = classify(client, content=archive([(name.encode(), CELL) for name in names]))
    assert [cell["file"] for cell in response["cells"]] == ["export/a_1d1/0_Ch1.ome.tif", "export/a_1d1/1_Ch1.ome.tif"]
    assert [cell["object"] for cell in response["cells"]] == [0, 1]
    assert response["sample"]["other_channels"] == 6


def test_backslashes_of_the_case_are_slashes(client):
    slashes, backslashes = (classify(client, content=case(f"zip_{kind}.zip")) for kind in ("slashes", "backslashes"))
    assert (len(slashes["cells"]), slashes["sample"]["other_channels"]) == (8, 24)
    for response in (slashes, backslashes):
        del response["request_id"]
    assert backslashes == slashes


@pytest.mark.parametrize(
    "name",
    [
        "7_CH1.TIF",
        "7_Ch01.tif",
        "7_ch_1.tif",
        "7 Ch 1.tif",
        "7_Ch1 (1).tif",
        "7_Ch1 - Copy.tif",
        "7_Channel1.tif",
        "7_C1.tif",
    ],
)
def test_names_as_people_write_them(client, name):
    others = [(name.replace("1", "4", 1), CELL)]
    response = classify(client, content=archive([(name, CELL), *others]))
    assert [(cell["file"], cell["object"]) for cell in response["cells"]] == [(name, 7)]
    assert response["sample"]["other_channels"] == 1
    single = client.post("/classify", files={"image": others[0]})
    assert (single.status_code, single.json()["error"]["code"]) == (400, "other_channel")


def test_a_zip_after_other_bytes_is_a_zip(client):
    whole = archive([("s/a_1d1_3_Ch1.ome.tif", CELL)], prefix=b"MZ" + bytes(500))
    [cell] = classify(client, content=whole)["cells"]
    assert (cell["file"], cell["object"]) == ("s/a_1d1_3_Ch1.ome.tif", 3)
    assert cell["label"]


def test_the_zip_of_the_case_after_other_bytes_is_a_zip(client):
    [cell] = classify(client, content=case("zip_prepended.zip"))["cells"]
    # An image of 8 bits, which the model of the tests does not know, but an image.
    assert (cell["file"], cell["object"], cell["error"]["code"]) == ("s/a_1d1_3_Ch1.ome.tif", 3, "bit_depth")


SYSTEM = ["s/Thumbs.db", "s/desktop.ini", "s/ehthumbs.db", "s/~$notes.docx", "s/.DS_Store", "__MACOSX/s/._a.tif"]


def test_files_of_operating_systems_are_ignored_in_zips_and_in_forms(client):
    files = [("s/a_1d1_3_Ch1.ome.tif", CELL), ("s/export.txt", b"notes"), *((name, b"x") for name in SYSTEM)]
    in_zip = classify(client, content=archive(files))
    loose = classify(client, files=[("files", file) for file in files])
    for response in (in_zip, loose):
        assert [cell["file"] for cell in response["cells"]] == ["s/a_1d1_3_Ch1.ome.tif", "s/export.txt"]
        assert (response["sample"]["cells"], response["sample"]["refused"]) == (1, 1)


def test_system_files_of_the_case_are_ignored(client):
    response = classify(client, content=case("zip_with_system_files.zip"))
    assert [cell["file"] for cell in response["cells"]] == ["s/a_1d1_3_Ch1.ome.tif", "s/export.txt"]


@pytest.mark.parametrize(
    ("files", "bad"),
    [
        ([("../b.tif", CELL)], "../b.tif"),
        ([("/etc/b.tif", CELL)], "/etc/b.tif"),
        ([("inner.zip", archive([("b.tif", CELL)]))], "inner.zip"),
        ([("b.tif", CELL), ("b.tif", tiff(typical(1)))], "b.tif"),
    ],
)
def test_an_entry_that_import_refuses_is_refused_for_the_same_reason_and_costs_only_itself(client, files, bad):
    whole = archive([("a.tif", CELL), *files])
    response = classify(client, files=parts(lab=whole))
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        [problem] = [member.problem for member in archives.list_members(file) if member.problem]
    assert list(outcome(response)) == ["a.tif", bad]
    assert outcome(response)[bad] == "zip"
    assert problem in response["cells"][1]["error"]["message"]


def test_an_encrypted_entry_costs_only_itself(client):
    whole = encrypted(archive([("a.tif", CELL), ("b.tif", CELL)]), "b.tif")
    response = classify(client, content=whole)
    assert [cell.get("error") is None for cell in response["cells"]] == [True, False]
    assert "without a password" in response["cells"][1]["error"]["message"]


def test_names_of_other_code_pages_are_readable(client):
    names = ["Größe_1/1.tif".encode("cp437"), "サンプル/1.tif".encode("cp932"), "Größe_2/1.tif".encode()]
    response = classify(client, content=archive([(name, CELL) for name in names]))
    assert [cell["sample"] for cell in response["cells"]] == ["Größe_1", "サンプル", "Größe_2"]


def csv(client, whole):
    return client.post("/classify_batch", params={"format": "csv"}, files=parts(**whole)).raise_for_status().content


def test_csv_names_the_sample_and_opens_in_a_spreadsheet(client):
    zips = {
        "Tag 1": archive([("=cmd|x.tif", b"x"), ("Größe.tif", CELL)]),
        "1-3": archive([("+a.tif", CELL), ("@b.tif", CELL), ("-c.tif", b"x")]),
    }
    raw = csv(client, zips)
    assert raw.startswith(b"\xef\xbb\xbfsample,file,")
    table = pd.read_csv(io.BytesIO(raw), dtype=str)
    assert table["sample"].tolist() == ["Tag 1"] * 2 + ["'1-3"] * 3
    assert table["file"].tolist() == ["'=cmd|x.tif", "Größe.tif", "'+a.tif", "'@b.tif", "'-c.tif"]
    assert table["reason"][0].startswith("'=cmd|x.tif: not an image")
    confidence = table["confidence"].dropna()
    assert len(confidence) == 3
    assert all(len(text.partition(".")[2]) >= 6 and "e" not in text for text in confidence)


def events(raw):
    data = flowio.FlowData(io.BytesIO(raw))
    return data.text, pd.DataFrame(np.reshape(data.events, (-1, data.channel_count)), columns=data.pnn_labels)


def fcs(client, **request):
    return client.post("/classify_batch", params={"format": "fcs"}, **request).raise_for_status()


def test_object_numbers_above_the_precision_of_single_floats_survive_fcs(client):
    numbers = [2**24 + 1, 33_554_433, 999_999_999_999_999]
    whole = archive([(f"a_1d1_{number}_Ch1.ome.tif", CELL) for number in numbers])
    response = fcs(client, content=whole)
    assert response.headers["content-type"] == "application/vnd.isac.fcs"
    keywords, table = events(response.content)
    assert [int(number) for number in table["object"]] == numbers
    assert keywords["datatype"] == "D"
    too_large = classify(client, content=whole)
    too_large["cells"][0]["object"] = 2**53 + 1
    refused = client.post("/export", params={"format": "fcs"}, json=too_large)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "parameters")


def test_fcs_of_several_samples_is_a_zip_with_a_file_for_each(client):
    zips = {
        day: archive([(f"{i}_Ch1.ome.tif", tiff(typical(i + shift))) for i in range(3)])
        for shift, day in enumerate(("day1", "day3"))
    }
    zips["empty"] = archive([("x.tif", b"x")])
    expected = classify(client, files=parts(**zips))
    response = fcs(client, files=parts(**zips))
    assert response.headers["content-type"] == "application/zip"
    assert 'filename="fatescope-multiclass.zip"' in response.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(response.content)) as packed:
        assert packed.namelist() == ["day1.fcs", "day3.fcs"]
        for first, day in zip((0, 3), ("day1", "day3"), strict=True):
            keywords, table = events(packed.read(f"{day}.fcs"))
            assert keywords["smno"] == keywords["fatescope_sample"] == day
            assert table["event"].tolist() == list(range(first, first + 3))
            assert table["object"].tolist() == [0, 1, 2]
            [summary] = [sample for sample in expected["samples"] if sample["sample"] == day]
            composition = json.loads(keywords["fatescope_composition"])
            for name in CLASSES:
                assert composition[name] == pytest.approx(summary["composition"][name], abs=1e-4)
                shares = [cell["probabilities"][name] for cell in expected["cells"] if cell["sample"] == day]
                assert table[f"p_{name}"].tolist() == pytest.approx(shares, abs=1e-5)
    roles = {"condition": "RA, high", "replicate": "2", "day": 3.0, "dose": 0.5, "donor": None}
    next(sample for sample in expected["samples"] if sample["sample"] == "day3")["roles"] = roles
    exported = client.post("/export", params={"format": "fcs"}, json=expected).raise_for_status()
    with zipfile.ZipFile(io.BytesIO(exported.content)) as packed:
        given, _ = events(packed.read("day3.fcs"))
        names = {name.removeprefix("fatescope_"): text for name, text in given.items() if name.startswith("fatescope_")}
        assert {name: names.get(name) for name in roles} == roles | {"day": "3", "dose": "0.5"}
        assert "fatescope_condition" not in events(packed.read("day1.fcs"))[0]
        assert packed.namelist() == ["day1.fcs", "day3.fcs"]


def test_fcs_of_thousands_of_samples_is_a_file_each(client):
    one = classify(client, content=archive([("x/1_Ch1.ome.tif", CELL)]))
    one["cells"] = [{**one["cells"][0], "sample": f"well {i}"} for i in range(4000)]
    exported = client.post("/export", params={"format": "fcs"}, json=one).raise_for_status()
    with zipfile.ZipFile(io.BytesIO(exported.content)) as packed:
        assert len(packed.namelist()) == 4000
        _, table = events(packed.read("well 3999.fcs"))
    assert table["event"].tolist() == [3999]


def test_samples_of_long_names_are_files_whose_names_a_disk_takes(client):
    end = "ü" * 120
    whole = archive([(f"{day}/{i}.tif", CELL) for day in ("a", "b") for i in range(2)])
    results = classify(client, content=whole)
    for cell in results["cells"]:
        cell["sample"] = f"{cell['sample']}{'ü' * 65_000}"
    exported = client.post("/export", params={"format": "fcs"}, json=results).raise_for_status()
    with zipfile.ZipFile(io.BytesIO(exported.content)) as packed:
        assert packed.namelist() == [f"{end}.fcs", f"{end} (2).fcs"]


def test_a_sample_of_a_response_has_a_name_that_can_be_read(client):
    long = "x" * 60_000
    whole = archive([(f"{long}{day}/{i}.tif", CELL) for day in (1, 3) for i in range(2)])
    samples = [cell["sample"] for cell in classify(client, content=whole)["cells"]]
    assert samples == [f"…{'x' * 499}{day}" for day in (1, 1, 3, 3)]


def test_names_that_become_the_same_are_numbered():
    names = ["Day", "day", "day:", "day?", "day (2)", "..", "/"]
    with zipfile.ZipFile(io.BytesIO(pack(((name, b"") for name in names), "fcs"))) as packed:
        assert packed.namelist() == ["Day.fcs", "day (2).fcs", "day_.fcs", "day_ (2).fcs", "day (2) (2).fcs",
                                     "sample.fcs", "_.fcs"]  # fmt: skip
