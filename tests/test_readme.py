import os
import re
import subprocess
import zipfile
from collections import Counter

import pytest
from ruamel.yaml import YAML

from fatescope import config
from fatescope.data import paths
from tests.support.bundles import EXACT, copy_bundle
from tests.support.images import draw_cell, tiff
from tests.support.params import write_params
from tests.support.presets import preset
from tests.support.project import ROOT, SHARED
from tests.support.servers import serving


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


def test_the_line_for_a_second_shell_is_the_stage_itself():
    stage = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]["tune"]["do"]["cmd"].replace("${key}", "binary")
    readme = (ROOT / "README.md").read_text().replace("\\\n", "")
    assert " ".join(stage.split()) in " ".join(readme.split())


@pytest.mark.slow
def test_the_lines_for_curl_run_as_written(tmp_path, rng):
    bundles, here = tmp_path / "bundles", tmp_path / "here"
    copy_bundle(bundles / "multiclass", "multiclass")
    copy_bundle(bundles / "binary", "binary")
    for task in ("binary", "multiclass"):
        (bundles / task / "card.html").write_text("a card")
        (bundles / task / "card.md").write_text("a card")
    for name in ("o_5d1/o_5d1_3", "a_1d1/a_1d1_4"):
        (here / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "data" / f"{name}_Ch1.ome.tif").write_bytes(tiff(draw_cell(rng)))
    (here / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    lines = re.findall(r"^    \$ (.*curl .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(lines) >= 10
    settings = {"FATESCOPE_BUNDLES": str(bundles), "FATESCOPE_FEEDBACK": str(here / "feedback"), **EXACT}
    with serving(tmp_path, ROOT, settings) as client:
        for line in lines:
            command = line.replace("http://127.0.0.1:3000", str(client.base_url)).replace(
                "curl ", "curl -sS --fail-with-body "
            )
            done = subprocess.run(
                command, shell=True, cwd=here, env=os.environ, capture_output=True, text=True, check=False
            )
            if "params.yaml" in line:
                assert '"code":"not_an_image"' in done.stdout
            else:
                assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert "verdict" in (here / "cells.csv").read_text().splitlines()[0]
    assert (here / "cells.fcs").read_bytes().startswith(b"FCS3")
    assert (here / "card.html").read_text() == "a card"
