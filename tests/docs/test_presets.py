"""The presets read every path of the public sets that they are for."""

import zipfile
from collections import Counter

import pytest

from fatescope import config
from fatescope.data import paths
from tests.support.params import write_params
from tests.support.presets import preset
from tests.support.project import SHARED


@pytest.mark.parametrize(
    ("name", "labels", "groups"),
    [
        ("nsc_sample", {"astrocyte": 4, "oligodendrocyte": 4, "RA/SHH": 4}, 3),
        (
            "jurkat_ifc",
            {"G1": 4500, "S_phase": 900, "G2": 900, "Prophase": 606, "Metaphase": 69, "Telophase": 29, "Anaphase": 15},
            7,
        ),
        ("malaria", {"Uninfected": None, "Parasitized": None}, 198),
    ],
)
def test_a_preset_reads_every_path_of_its_set(tmp_path, name, labels, groups):
    archive = SHARED / f"{name}.zip"
    if not archive.exists():
        pytest.skip(f"the real images are not here: {archive}")
    dataset = config.load(write_params(tmp_path, preset(name))).dataset
    reader = paths.PathParser(dataset)
    found = [reader.read(path) for path in zipfile.ZipFile(archive).namelist() if not path.endswith(("/", ".md"))]
    assert None not in found
    cells = [each for each in found if reader.is_input(each)]
    counts = Counter(each.label for each in cells)
    assert set(counts) == set(labels)
    if None not in labels.values():
        assert counts == labels
    assert len({each.group for each in cells}) == groups
    assert set(counts) <= set(dataset.classes.values())


def test_a_preset_reads_an_ideas_export(tmp_path):
    reader = paths.PathParser(config.load(write_params(tmp_path, preset("ideas"))).dataset)
    name = reader.read("samples/astro_day3_run2/17_Ch1.ome.tif")
    assert (name.label, name.group, name.facts["object"]) == ("astrocyte", "astro_day3_run2", "17")
    assert reader.is_input(name)
    assert not reader.is_input(reader.read("samples/astro_day3_run2/17_Ch2.ome.tif"))
    assert reader.read("samples/astro_day3_run2/notes.txt") is None
