"""A project in an unusual place: without git, with links in its data, under a user without a name."""

import os
import shutil
import stat
import subprocess
import sys

import pytest

from fatescope.cli import app
from tests.support.params import write_params
from tests.support.project import ROOT

SMALL = {
    "simulate.cells": 8,
    "simulate.days": [1],
    "simulate.runs": 2,
    "simulate.marker_channels": 0,
    "simulate.darkfield": False,
}


@pytest.fixture
def unzipped(tmp_path, monkeypatch):
    """A project as a downloaded zip has it: with the settings of DVC, and without git."""
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    write_params(folder, SMALL)
    for name in ("dvc.yaml", ".dvc/config"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "data.dvc").write_text("desc: drawn by fatescope data simulate\nouts:\n- path: data\n")
    monkeypatch.chdir(folder)
    return folder


def command(*arguments, folder, **environment):
    """Run `fatescope` as a shell does."""
    known = {name: value for name, value in os.environ.items() if name not in app.ENVIRONMENT}
    environment = known | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        [sys.executable, "-m", "fatescope.cli", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, encoding="utf-8",
    )  # fmt: skip


@pytest.mark.slow
def test_a_project_without_git_makes_versions_of_its_data(unzipped):
    fetched = command("data", "fetch", folder=unzipped, PATH=str(unzipped / "nothing"))
    assert fetched.returncode == 0, fetched.stderr
    assert "no git repository here" in fetched.stderr
    assert "md5: " in (unzipped / "data.dvc").read_text()
    assert "no_scm = true" in (unzipped / ".dvc/config.local").read_text()
    # What DVC knows of the files is nobody else's.
    assert stat.S_IMODE((unzipped / ".dvc/tmp/site").stat().st_mode) == 0o700
    assert any((unzipped / ".dvc/tmp/site/repo").iterdir())
    shutil.rmtree(unzipped / "data")
    again = command("data", "fetch", folder=unzipped)
    assert (again.returncode, "no git repository" in again.stderr) == (0, False)


def test_what_dvc_fails_on_is_named_before_it_runs(unzipped, fatescope):
    (unzipped / "data").mkdir()
    (unzipped / "data" / "a.tif").symlink_to("nowhere.tif")
    (unzipped / "data" / "round").symlink_to(unzipped / "data")
    (unzipped / "data" / os.fsdecode(b"caf\xe9.tif")).touch()
    result = fatescope("repro")
    assert result.code == 1
    assert result.errors.startswith("error: 3 paths of which DVC can make no version; rename or remove them")
    assert "data/a.tif: a link to 'nowhere.tif', which is not there" in result.errors
    assert r"data/caf\xe9.tif: the name is not UTF-8" in result.errors


def test_a_data_folder_that_leads_nowhere_is_no_empty_one(unzipped, fatescope):
    (unzipped / "data").symlink_to("/mnt/not-mounted")
    result = fatescope("repro")
    assert (result.code, result.errors) == (
        1,
        "error: data: a link to /mnt/not-mounted, which is not there; mount or remove it\n",
    )


@pytest.mark.parametrize(
    "locale",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "POSIX"}, {"LC_ALL": "C.UTF-8"}],
)
def test_a_name_is_the_same_in_every_locale(unzipped, locale):
    given = (
        (ROOT / "params.yaml")
        .read_text(encoding="utf-8")
        .replace("n: RA/SHH", "é: Zellgröße")
        .replace("RA/SHH", "Zellgröße")
    )
    (unzipped / "params.yaml").write_text(given, encoding="utf-8")
    export = unzipped.parent / "ö"
    export.mkdir()
    (export / "é_1d1_1_Ch1.tif").touch()
    # The pattern does not match: the message has the name as it is.
    done = command("audit", str(export), folder=unzipped, **locale)
    assert done.returncode == 1
    assert "such as é_1d1_1_Ch1.tif: fits" in done.stderr
