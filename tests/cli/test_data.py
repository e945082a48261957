"""Cells for a project: drawn, fetched, imported as a version of the data."""

import json
import shutil
import zipfile

import pytest

from fatescope.cli import project
from fatescope.config import presets
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.project import ROOT, run

SMALL = {"simulate.cells": 8, "simulate.days": [1], "simulate.runs": 2, "simulate.marker_channels": 0}


def test_presets_are_listed_and_shown(fatescope):
    listed = {line.split()[1]: line.split()[0] for line in fatescope("data", "presets").output.splitlines()}
    assert listed == {preset.name: preset.kind for preset in presets.list_presets()}
    [content] = json.loads(fatescope("data", "presets", "ideas", "--json").output)
    assert (content["name"], content["kind"]) == ("ideas", "data")
    assert "pattern" in content["values"]["dataset"]
    assert fatescope("data", "presets", "thorough").output.startswith("# ")


@pytest.mark.slow
def test_cells_are_drawn_with_what_is_given(fatescope, tmp_path):
    params = write_params(tmp_path, SMALL)
    drawn = fatescope(
        "data", "simulate", "--params", params, "--out", tmp_path / "drawn", "--cells", "16", "--seed", "7"
    )
    assert drawn.code == 0
    assert len(list((tmp_path / "drawn").rglob("*.tif"))) == 16
    origin = json.loads((tmp_path / "drawn" / "origin.json").read_text())
    assert (origin["origin"], origin["seed"]) == ("simulated", 7)
    again = fatescope("data", "simulate", "--params", params, "--out", tmp_path / "drawn")
    assert (again.code, "already holds files" in again.errors) == (1, True)


@pytest.fixture
def laboratory(tmp_path, monkeypatch):
    """A project under DVC whose data are drawn, with a remote."""
    folder = tmp_path / "project"
    folder.mkdir()
    write_params(folder, SMALL)
    shutil.copy(ROOT / "dvc.yaml", folder)
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    run(folder, "dvc", "remote", "add", "--default", "disk", str(tmp_path / "remote"))
    (folder / "data.dvc").write_text("desc: drawn by fatescope data simulate\nouts:\n- path: data\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
def test_the_walk_of_a_laboratorys_data(laboratory, fatescope, rng, tmp_path):
    # Without data of its own, cells are drawn, once.
    assert fatescope("data", "fetch").code == 0
    assert len(list((laboratory / "data").rglob("*.tif"))) == 8
    assert project.data_is_drawn()
    (laboratory / "data" / "mark").touch()
    assert fatescope("data", "fetch").code == 0
    assert (laboratory / "data" / "mark").exists(), "what is there stays"

    # An export takes the place of simulated cells, and is the laboratory's own version from then on.
    write_export(tmp_path / "export", rng)
    imported = json.loads(fatescope("data", "import", tmp_path / "export", "--json").output)
    assert imported["cells"] == {"astrocyte": 24, "oligodendrocyte": 24}
    assert (imported["groups"], imported["channels"]) == (6, {"1": 48, "2": 48})
    assert not project.data_is_drawn()
    version = (laboratory / "data.dvc").read_text()
    assert "desc:" not in version

    # On another machine that version is pulled, never drawn over.
    run(laboratory, "dvc", "push", "-q")
    shutil.rmtree(laboratory / "data")
    shutil.rmtree(laboratory / ".dvc" / "cache")
    assert fatescope("data", "fetch").code == 0
    assert len(list((laboratory / "data").rglob("*.tif"))) == 96
    assert (laboratory / "data.dvc").read_text() == version

    # A second export is added to the first, which is pulled before where it is not here.
    shutil.rmtree(laboratory / "data")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(tmp_path / "export" / "a_1d1_0_Ch1.ome.tif", "more/a_1d9_0_Ch1.ome.tif")
    assert fatescope("data", "import", tmp_path / "more.zip").code == 0
    assert len(list((laboratory / "data").rglob("*.tif"))) == 97


@pytest.mark.slow
def test_no_cells_and_no_version_of_them(laboratory, fatescope):
    (laboratory / "data.dvc").unlink()
    result = fatescope("data", "fetch")
    assert (result.code, "run `fatescope data import SRC`" in result.errors) == (1, True)


@pytest.mark.slow
def test_an_export_is_audited_beside_the_project(fatescope, rng, tmp_path, monkeypatch):
    write_export(tmp_path / "export", rng)
    params = write_params(tmp_path, {"train.threads": 1})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = fatescope("audit", tmp_path / "export", "--params", params, "--json")
    report = json.loads(result.output)
    assert report["verdict"] in ("clean", "suspect", "shortcut")
    assert [pair["classes"] for pair in report["pairs"]] == [["astrocyte", "oligodendrocyte"]]
    assert not any((tmp_path / "here").iterdir())
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for path in (tmp_path / "export").iterdir():
            archive.write(path, path.name)
    zipped = fatescope("audit", tmp_path / "export.zip", "--params", params, "--out", tmp_path / "kept")
    assert zipped.output.startswith(f"{report['verdict']}: 48 cells, 1 pairs")
    assert (tmp_path / "kept" / "audit.json").exists()
