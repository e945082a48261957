"""Cells for a project: drawn, fetched, imported as a version of the data."""

import json
import os
import shutil
import zipfile
from functools import partial

import pytest

from fatescope import config
from fatescope.cli import project
from fatescope.config import presets
from fatescope.errors import FatescopeError
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.pictures import brightfield
from tests.support.pictures import write as write_pictures
from tests.support.project import ROOT, run

SMALL = {
    "simulate.cells": 8,
    "simulate.days": [1],
    "simulate.runs": 2,
    "simulate.marker_channels": 0,
    "simulate.darkfield": False,
}


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
    junk = fatescope("data", "simulate", "--params", params, "--out", tmp_path / "junk", "--cells", "16", "--junk", "1")
    assert junk.code == 0
    rows = (tmp_path / "junk_junk.csv").read_text().splitlines()
    assert len(rows) == 17
    assert all(row.endswith(",True") for row in rows[1:])
    out = tmp_path / "frames"
    assert fatescope("data", "simulate", "--params", params, "--out", out, "--cells", "8", "--frames", "2").code == 0
    assert len(list(out.rglob("*_t0_Ch1.ome.tif"))) == len(list(out.rglob("*_t6_Ch1.ome.tif"))) == 8
    again = fatescope("data", "simulate", "--params", params, "--out", tmp_path / "drawn")
    assert (again.code, "already holds files" in again.errors) == (1, True)


def test_a_preset_of_data_that_are_drawn_is_applied_as_settings_are_and_others_are_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path)
    project.apply_settings("followed")
    settings = config.load(tmp_path / "params.yaml")
    assert (settings.dataset.track, settings.dataset.time, settings.simulate.frames) == ("object", "hour", 8)
    with pytest.raises(FatescopeError, match="describes data; use it with `fatescope data import --preset ideas`"):
        project.apply_settings("ideas")


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
    assert zipped.output.startswith(f"{report['verdict']}: 48 cells, 1 pair of classes")
    assert (tmp_path / "kept" / "audit.json").exists()
    assert json.loads((tmp_path / "kept" / "quality.json").read_text())["total"]["cells"] == 48


@pytest.fixture
def project_folder(tmp_path, monkeypatch):
    """A project as a person has it, with comments in its params.yaml, without DVC."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(project, "dvc", lambda *_, **__: None)
    return folder


@pytest.fixture
def lab(tmp_path, rng):
    """An export whose folders are classes and runs, which no known scheme reads."""
    return write_pictures(tmp_path / "lab", rng, [f"{m}/run{r}/{c}_Ch1.tif" for m in ("live", "dead") for r in (1, 2, 3)
                          for c in range(3)])  # fmt: skip


def test_without_anybody_to_ask_a_proposal_is_printed_and_nothing_changed(fatescope, project_folder, lab):
    before = (project_folder / "params.yaml").read_text()
    result = fatescope("data", "import", lab)
    assert result.code == 3
    assert "+  classes: {dead: dead, live: live}" in result.output
    assert "run again with --yes" in result.errors
    assert (project_folder / "params.yaml").read_text() == before
    assert not (project_folder / "data").exists()
    content = json.loads(fatescope("data", "import", lab, "--json").output)
    assert content["proposal"]["dataset"]["tasks"] == {"binary": ["dead", "live"]}
    assert content["cells"] == {"live": 9, "dead": 9}


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 3), ("", 3)])
def test_a_person_is_asked_once(fatescope, project_folder, lab, monkeypatch, answer, code):
    questions = []
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr("builtins.input", lambda text: questions.append(text) or answer)
    assert fatescope("data", "import", lab).code == code
    assert len(questions) == 1
    assert (project_folder / "data").is_dir() == (code == 0)
    assert ("live: live" in (project_folder / "params.yaml").read_text()) == (code == 0)


def test_yes_writes_and_imports_and_the_next_import_asks_nothing(fatescope, project_folder, lab, tmp_path, rng):
    imported = json.loads(fatescope("data", "import", lab, "--yes", "--json").output)
    assert (imported["cells"], imported["groups"]) == ({"live": 9, "dead": 9}, 6)
    written = (project_folder / "params.yaml").read_text()
    assert "canvas: [40, 44]" in written
    more = write_pictures(tmp_path / "more", rng, ["live/run4/1_Ch1.tif"])
    assert fatescope("data", "import", more).code == 0
    assert (project_folder / "params.yaml").read_text() == written


@pytest.mark.usefixtures("project_folder")
def test_an_export_of_other_names_does_not_take_over_a_project_with_cells(fatescope, lab, tmp_path, rng):
    assert fatescope("data", "import", lab, "--yes").code == 0
    other = write_pictures(tmp_path / "other", rng, [f"{m}_{c}.png" for m in ("wt", "ko") for c in range(3)])
    result = fatescope("data", "import", other, "--yes")
    assert result.code == 1
    assert "data has 18 images, such as dead/run1/0_Ch1.tif, that the present dataset.pattern reads" in result.errors


def test_what_will_fail_is_told_where_the_section_reads_the_export_and_set_with_yes(
    fatescope, project_folder, tmp_path, rng
):
    names = [f"{m}_1d{r}_{c}_Ch1.ome.tif" for m in "ao" for r in (1, 2, 3) for c in range(3)]
    wide = partial(brightfield, width=120)
    source = write_pictures(tmp_path / "wide", rng, names, {".tif": wide})
    before = (project_folder / "params.yaml").read_text()
    result = fatescope("data", "import", source)
    assert result.code == 0
    assert "18 of 18 crops do not fit ingest.canvas (60x80 px)" in result.errors
    assert (project_folder / "params.yaml").read_text() == before
    shutil.rmtree(project_folder / "data")
    assert fatescope("data", "import", source, "--yes").code == 0
    assert "canvas: [60, 120]" in (project_folder / "params.yaml").read_text()


@pytest.mark.usefixtures("project_folder")
def test_what_is_no_export_is_refused_as_before(fatescope, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no files" in fatescope("data", "import", tmp_path / "empty").errors
    (tmp_path / "x.fcs").write_bytes(b"FCS3.1")
    assert "an FCS file" in fatescope("data", "import", tmp_path / "x.fcs", "--yes").errors


def test_a_sample_is_forgotten_after_a_dry_run_and_what_is_too_old_expires(tmp_path, monkeypatch, fatescope):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FATESCOPE_AUDIT_LOG", str(tmp_path / "log"))
    image = tmp_path / "data" / "donor" / "cell.tif"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"cell")
    nowhere = fatescope("data", "forget", "--sample", "other")
    assert nowhere.output.endswith(
        "found nowhere, so there is nothing to delete; look for another name with --path or --request\n"
    )
    dry = fatescope("data", "forget", "--sample", "donor")
    assert (dry.code, image.exists()) == (0, True)
    assert dry.output == "data: 1 of 1\n  data/donor/cell.tif\nnothing was deleted; --yes deletes it\n"
    done = fatescope("data", "forget", "--image", str(image), "--yes", "--proof", "proof.json")
    assert (done.code, image.exists()) == (0, False)
    assert "data: 1 found, 0 left; 1 before, 0 now" in done.output
    assert "remotes of DVC: dvc gc --workspace --cloud --force" in done.output
    proof = json.loads((tmp_path / "proof.json").read_text())
    assert proof["complete"]
    assert proof["places"][0]["found"] == 1
    assert "say what, with --sample" in fatescope("data", "forget").errors

    record = tmp_path / "records" / "binary" / "old.parquet"
    record.parent.mkdir(parents=True)
    record.touch()
    os.utime(record, (0, 0))
    assert (fatescope("data", "expire").output, record.exists()) == ("records: 1 would be deleted\n", True)
    assert (json.loads(fatescope("data", "expire", "--yes", "--json").output), record.exists()) == (
        {"records": 1},
        False,
    )
