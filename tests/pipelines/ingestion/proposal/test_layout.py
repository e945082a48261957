"""What the paths of exports have in common, on the layouts that people have."""

import re
import zipfile

import pytest

from fatescope.config import Dataset
from fatescope.data.paths import PathParser
from pipelines.ingestion.proposal import drafts, layout, roles
from tests.support.project import SHARED


def read(paths, label=None):
    """Return the roles of paths, and what their pattern makes of each: class, group, object and channel."""
    found = layout.infer(paths)
    chosen = roles.choose(found, label)
    pattern = found.pattern(chosen.label)
    names = re.compile(pattern).groupindex
    dataset = Dataset(
        pattern=pattern, label="label", classes={}, group=chosen.group, ranges={}, tasks={}, hierarchy={},
        channels={"1": "brightfield"} if "channel" in names else None, marker_channels=[],
        track=None, time=None,
    )  # fmt: skip
    parsed = [PathParser(dataset).read(path) for path in paths]
    assert None not in parsed, pattern
    return chosen, [(one.label, one.group, one.facts.get("object"), one.facts.get("channel")) for one in parsed]


def cross(text, **values):
    """Return `text` with each combination of values in it."""
    texts = [text]
    for name, options in values.items():
        texts = [one.replace(f"<{name}>", str(option)) for one in texts for option in options]
    return texts


NUMBERS = {"object": (1, 2, 17), "channel": (1, 2)}


@pytest.mark.parametrize(
    ("paths", "first"),
    [
        (cross("<m>_1d<r>_<object>_Ch<channel>.ome.tif", m="ao", r=(1, 2), **NUMBERS), ("a", "a_1_1", "1", "1")),
        (
            cross("<m>_day3_run<r>/<object>_Ch<channel>.ome.tif", m=("astro", "oligo"), r=(1, 2), **NUMBERS),
            ("astro", "astro_3_1", "1", "1"),
        ),
        (
            cross("export/<m>/S0<r>/<object>_CH0<channel>.TIF", m=("Astrocyte", "RA SHH"), r=(1, 2), **NUMBERS),
            ("Astrocyte", "Astrocyte_S01", "1", "1"),
        ),
        (cross("<m>/<object>.png", m=("live", "dead"), object=(1, 2, 3)), ("live", "live", "1", None)),
        (
            cross("<m>_1d<r>_<object>_Ch<channel>.tif", m=("a", "RA_SHH"), r=(1, 2), **NUMBERS),
            ("a", "a_1_1", "1", "1"),
        ),
        (
            cross("<m>/run_<r>/cell_<object>_ch<channel>.bmp", m=("wild_type", "knock_out"), r=(1, 2), **NUMBERS),
            ("wild_type", "wild_type_1", "1", "1"),
        ),
        (
            cross("2026011<d>/<m>_D3/<object>_Ch<channel>.tif", d=(1, 2), m=("ctrl", "drug"), **NUMBERS),
            ("ctrl", "20260111_3", "1", "1"),
        ),
        (
            cross("donor<d>/<m>/run<r>/<object>_Ch<channel>.tif", d=(1, 2, 3), m=("ctrl", "drug"), r=(1, 2), **NUMBERS),
            ("ctrl", "1", "1", "1"),
        ),
        (cross("<m>_<object>_<c>.tif", m=("wt", "ko"), object=(1, 2), c=("BF", "DAPI")), ("wt", "wt", "1", "bf")),
        (
            cross("<m>_1d<r>/Ch<channel>/<m>_1d<r>_<object>_Ch<channel>.ome.tif", m="ao", r=(1, 2), **NUMBERS),
            ("a", "a_1_1", "1", "1"),
        ),
        (cross("Ch<channel>/<m>_<object>.tif", m=("wt", "ko"), **NUMBERS), ("wt", "wt", "1", "1")),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_class_group_object_and_channel_are_read_from_the_layouts_that_people_have(paths, first):
    _, parsed = read(paths)
    assert parsed[0] == first
    assert len({(group, number, channel) for _, group, number, channel in parsed}) >= len(paths) / 4


def test_upper_and_lower_case_are_one_class():
    paths = ["ASTRO_D1_R1_1_CH1.TIF", "astro_d1_r2_2_ch1.tif", "Oligo_D1_R1_1_Ch1.tif", "OLIGO_d1_r2_3_Ch1.tif"]
    chosen, parsed = read(paths)
    assert set(chosen.label.column.distinct) == {"astro", "oligo"}
    assert [row[2] for row in parsed] == ["1", "2", "1", "3"]


def test_a_run_number_that_occurs_in_both_classes_is_told():
    chosen, _ = read(cross("<m>/run<r>/<object>.tif", m=("ctrl", "drug"), r=(1, 2), object=(1, 2)))
    assert chosen.group == ["label", "run"]
    assert "run has the same values in several classes, such as run1;" in chosen.notes[0]


def test_a_code_that_occurs_in_both_classes_is_one_acquisition():
    chosen, _ = read(cross("<m>/CP000<r>_<object>.tif", m=("G1", "G2"), r=(1, 2), object=(1, 2)))
    assert (chosen.group, chosen.notes) == (["cp"], [])


def test_samples_in_folders_of_their_own_say_no_class():
    found = layout.infer(cross("S0<s>/<object>_Ch1.tif", s=(1, 2, 3), object=(1, 2)))
    assert roles.choose(found).label is None


def test_a_part_that_may_be_meant_as_well_is_named_and_can_be_chosen():
    paths = cross("<m>/<t>/<object>.tif", m=("heart", "liver"), t=("young", "old"), object=(1, 2))
    chosen, parsed = read(paths)
    assert ([*chosen.label.column.distinct], len(chosen.rivals)) == (["heart", "liver"], 1)
    assert {row[0] for row in parsed} == {"heart", "liver"}
    _, parsed = read(paths, "old")
    assert {row[0] for row in parsed} == {"young", "old"}


def test_names_with_the_class_in_front_in_some_files_are_of_the_same_patient():
    paths = [
        "x/Infected/C7P2_IMG_cell_1.png",
        "x/Infected/InfectedC7P2_IMG_cell_2.png",
        "x/Healthy/C8P3_IMG_cell_1.png",
    ]
    _, parsed = read([*paths, "x/Healthy/C7P2_IMG_cell_3.png"])
    assert parsed[0][1] == parsed[1][1] == parsed[3][1] != parsed[2][1]


def test_native_files_are_read_under_their_names_and_those_of_their_exports():
    found = layout.infer(cross("<m>_1d<r>.cif", m="ao", r=(1, 2)))
    chosen = roles.choose(found)
    pattern = re.compile(found.pattern(chosen.label))
    assert pattern.search("deep/a_1d2.rif")["label"] == "a"
    assert pattern.search("a_1d2_17_Ch5.ome.tif").group("label", "object", "channel") == ("a", "17", "5")


@pytest.mark.parametrize(
    ("name", "classes", "groups"), [("nsc_sample", 3, 3), ("jurkat_ifc", 7, 7), ("malaria", 2, 203)]
)
def test_public_sets_are_read_without_the_presets_that_know_them(name, classes, groups):
    archive = SHARED / f"{name}.zip"
    if not archive.exists():
        pytest.skip(f"the real images are not here: {archive}")
    paths = [path for path in zipfile.ZipFile(archive).namelist() if layout.is_image(path)]
    _, parsed = read(paths)
    assert len({row[0] for row in parsed}) == classes
    assert len({row[1] for row in parsed}) == groups


@pytest.mark.parametrize("name", ["x{y}", "(b)", "[c]", "CD4+", "é", "a;b", " a ", "%s", "$^", "K1"])
def test_any_name_of_a_class_gives_a_pattern_that_reads_it(name):
    paths = [f"{one}/run{run}/{cell}.tif" for one in (name, "other") for run in (1, 2) for cell in (1, 2)]
    draft = drafts.by_paths(layout.infer(paths), None)
    reader = PathParser(draft.dataset(None))
    labels = {reader.read(path).label for path in paths}
    assert labels == {name.strip().replace(";", ","), "other"}
