import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from service import requirements
from tests.support.bundles import EXACT, copy_bundle
from tests.support.images import draw_cell, tiff
from tests.support.project import ROOT
from tests.support.servers import serving


def test_a_bento_installs_the_versions_that_are_tested_here():
    lines = (ROOT / "service" / "requirements.txt").read_text().splitlines()
    assert lines == requirements.pinned(), "run: python -m service.requirements > service/requirements.txt"
    assert not [line for line in lines if line.startswith(("torch", "great-expectations"))]
    pins = [pin for pin in map(Requirement, lines) if pin.marker is None or pin.marker.evaluate()]
    assert [f"=={version(pin.name)}" for pin in pins] == [str(pin.specifier) for pin in pins]


@pytest.mark.slow
def test_a_bento_contains_its_champions_and_needs_no_registry_and_no_project(tmp_path, rng):
    source = tmp_path / "project"
    source.mkdir()
    for name in ("service", "pipelines", "fatescope"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    # As `make bento` downloads them.
    copy_bundle(source / "champions" / "multiclass" / "4", "multiclass")
    (source / "champions" / "champions.json").write_text('{"multiclass": "4"}')
    settings = {"BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    bentoml = Path(sys.executable).with_name("bentoml")
    done = subprocess.run(
        [bentoml, "build"], cwd=source, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = (tmp_path / "home" / "bentos" / "fatescope").glob("*/src")
    assert sorted(path.name for path in built.iterdir() if path.is_dir()) == ["champions", "fatescope", "service"]
    source.rename(tmp_path / "gone")
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served", built.parent, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", **EXACT}) as client:
        response = client.post("/classify", content=tiff(draw_cell(rng))).raise_for_status().json()
    assert response["model"] == {"name": "fatescope-multiclass", "version": "4"}
