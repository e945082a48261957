"""What names and places of files say; the tables are those of the page's own tests."""

import json

import pytest

from fatescope.data import names, samples
from fatescope.data.export_folder import list_files
from fatescope.data.paths import PathParser
from fatescope.data.sidecar import Label
from tests.support.project import ROOT

TABLE = json.loads((ROOT / "tests" / "page" / "names.json").read_text())
SAMPLES = json.loads((ROOT / "tests" / "page" / "samples.json").read_text())


def parser(make_params, pattern):
    groups = [name for name in ("medium", "object") if f"?P<{name}>" in pattern]
    channel = {"1": "brightfield"} if "?P<channel>" in pattern else None
    changes = {"pattern": pattern, "label": groups[0], "group": groups, "channels": channel, "ranges": {}}
    return PathParser(make_params({f"dataset.{name}": value for name, value in changes.items()}).dataset)


def test_channel_and_object_are_read_as_people_and_instruments_write_them(make_params):
    for row in TABLE["names"]:
        if row["pattern"] is None:
            name = names.read_name(names.normalise(row["path"]))
        else:
            name = parser(make_params, row["pattern"]).read_name(row["path"])
        assert (name.object, name.channel) == (row["object"], row["channel"]), row


@pytest.mark.parametrize(
    ("path", "label", "group"),
    [
        ("a_1d2_17_Ch1.ome.tif", "astrocyte", "a_1_2"),
        ("A_1D2_17_CH1.OME.TIF", "astrocyte", "a_1_2"),
        ("NT3_1d2_17_Ch1.ome.tif", "NT3", "nt3_1_2"),
        ("a_1d2_17_ch_01.ome.tif", "astrocyte", "a_1_2"),
        ("run\\a_1d2_17 Channel 1.ome (1).tif", "astrocyte", "a_1_2"),
        ("Astro_1d2_17_Ch1.ome.tif", "Astro", "Astro_1_2"),
    ],
)
def test_a_cell_keeps_its_class_and_group_whatever_the_spelling(params, path, label, group):
    parsed = PathParser(params.dataset).read(path)
    assert (parsed.label, parsed.group, parsed.facts["object"]) == (label, group, "17")
    assert PathParser(params.dataset).is_input(parsed)


@pytest.mark.parametrize(
    ("path", "label", "changed"),
    [
        ("run/a_1d2_17_Ch1.ome.tif", "oligodendrocyte", "run/o_1d2_17_Ch1.ome.tif"),
        ("run/A_1d2_17_ch1.ome - Copy.tif", "NT3", "run/nt3_1d2_17_ch1.ome.tif"),
        ("run/17.tif", "NT3", None),
        ("run/a_1d2_17_Ch1.ome.tif", "neuron", None),
    ],
)
def test_a_path_is_given_another_class_where_it_can_say_it(params, path, label, changed):
    parser = PathParser(params.dataset)
    assert parser.relabel(path, label) == changed
    assert changed is None or parser.read(changed).label == label


def test_the_files_of_one_object_are_found_by_their_names(make_params):
    for row in TABLE["objects"]:
        for path in row["paths"]:
            if row["pattern"] is None:
                key = names.without_channel(names.normalise(path))
            else:
                key = parser(make_params, row["pattern"]).object_key(path)
            assert key == row["key"], (path, row["pattern"])


def test_what_a_sidecar_says_holds_and_an_empty_group_is_that_of_the_path(params):
    labels = {"a_1d2_1_Ch1.ome.tif": Label("NT3", ""), "a_1d2_2_Ch1.ome.tif": Label("NT3", "x")}
    read = PathParser(params.dataset, labels).read
    parsed = [read(f"a_1d2_{number}_Ch1.ome.tif") for number in (1, 2, 3)]
    assert [(cell.label, cell.group) for cell in parsed] == [("NT3", "a_1_2"), ("NT3", "x"), ("astrocyte", "a_1_2")]


@pytest.mark.parametrize("path", ["a" + "(1)" * 100_000 + "x.tif", " " * 500_000 + ".tif", "x/" * 50_000 + "a.tif"])
def test_no_pattern_is_tried_on_a_name_that_no_file_can_have(params, path):
    parser = PathParser(params.dataset)
    assert parser.read(path) is None
    assert parser.read_name(path) == names.ImageName(None, None)


def test_a_channel_of_thousands_of_digits_is_a_channel_like_any_other(params):
    parsed = PathParser(params.dataset).read("a_1d1_3_Ch000" + "1" * 200 + ".ome.tif")
    assert parsed.facts["channel"] == "1" * 200
    assert names.plain_channel("0" * 5000) == "0"
    assert names.plain_channel("0" * 5000 + "7") == "7"


def test_values_that_differ_in_case_only_stay_apart_where_both_are_classes(make_params):
    dataset = make_params({"dataset.classes": {"a": "astrocyte", "A": "oligodendrocyte", "n": "RA/SHH", "nt3": "NT3"}})
    read = PathParser(dataset.dataset).read
    assert read("a_1d2_17_Ch1.ome.tif").label == "astrocyte"
    assert read("A_1d2_17_Ch1.ome.tif").label == "oligodendrocyte"


def test_the_channel_of_the_model_may_be_written_with_zeros(make_params):
    read = PathParser(make_params({"dataset.channels": {"01": "brightfield"}}).dataset)
    assert read.is_input(read.read("a_1d2_17_Ch1.ome.tif"))
    assert not read.is_input(read.read("a_1d2_17_Ch11.ome.tif"))


def test_files_of_operating_systems_are_in_no_listing(tmp_path):
    for path in (*TABLE["system"], "run_1/a.b.tif", "s/export.txt", "desktop.ini.tif"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    assert sorted(list_files(tmp_path)) == ["desktop.ini.tif", "run_1/a.b.tif", "s/export.txt"]
    assert not any(names.is_system_file(path) for path in TABLE["plain"])


@pytest.mark.parametrize("case", SAMPLES, ids=[case["case"] for case in SAMPLES])
def test_a_sample_is_a_zip_or_a_folder(case):
    files = [(file["zip"], file["path"]) for file in case["files"]]
    assert samples.assign_samples(files) == [file["sample"] for file in case["files"]]


def test_zips_of_the_same_name_are_two_samples():
    zips = ["a.zip", "b/a.ZIP", "a.zip", "run.zip"]
    assert samples.name_zips(zips, ["run/1.tif"]) == ["a", "b/a", "a (2)", "run (2)"]
