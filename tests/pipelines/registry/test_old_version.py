"""Versions that earlier code registered are loaded, predict, and are compared and decided on as any other."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fatescope.inference import bundle
from fatescope.model_registry import CHAMPION
from pipelines.commands import compare
from pipelines.registry import versions
from tests.support import old_version
from tests.support.pipeline import run_register
from tests.support.project import ROOT

pytestmark = pytest.mark.slow

LOAD = """
import json, sys
from pathlib import Path

import mlflow
import numpy as np

pixels = np.load(sys.argv[2])
table = mlflow.pyfunc.load_model(sys.argv[1]).predict({"pixels": pixels})
json.dump({"table": table.to_dict("list"), "code": sys.modules["pipelines"].__file__}, sys.stdout)
"""


def test_mlflow_loads_it_with_the_code_that_it_brings(tmp_path):
    """In a process that has this code on its path, as every process of this environment does."""
    model = old_version.unpack(tmp_path)
    loaded = bundle.load(model / "artifacts/bundle", threads=1)
    np.save(tmp_path / "pixels.npy", loaded.example)
    command = [sys.executable, "-W", "ignore", "-c", LOAD, str(model), str(tmp_path / "pixels.npy")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["code"].startswith(str(model / "code"))
    expected = loaded.predict(loaded.example).probabilities
    found = np.transpose([answer["table"][f"p_{name}"] for name in loaded.spec.classes])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_it_is_the_champion_that_a_new_version_must_beat(folder, empty_registry, tmp_path):
    old_version.unpack(tmp_path / "old")
    old_version.register(empty_registry, tmp_path / "old")
    verdict = run_register(folder)
    assert (verdict["version"], verdict["champion"], verdict["replaced"]) == ("2", True, "1")
    assert "of version 1 on the same" in verdict["criteria"]["better"]["detail"]
    assert verdict["criteria"]["better"]["value"] > 0
    # Its verdict, and the reason why there was no comparison, are those of before.
    old = versions.verdict_of(empty_registry.get_model_version("fatescope-binary", "1"))
    assert (old.champion, old.compared, old.failed) == (True, "no champion yet", [])
    [summary] = versions.history("binary", without="2")
    assert (summary.version, summary.verdict) == ("1", "champion")
    assert "| 1 | " in (folder / "reports/binary/registered/card.md").read_text()

    with versions.download("binary", "1") as downloaded:
        bundle.load(downloaded, threads=1).check()
    compare.main(
        folder / "params.yaml", "binary", "1", CHAMPION, folder / "artifacts/cells",
        folder / "artifacts/splits.parquet", tmp_path / "compare",
    )  # fmt: skip
    comparison = json.loads((tmp_path / "compare/1-champion.json").read_text())
    assert comparison["figures"]["balanced_accuracy"]["difference"] == pytest.approx(
        verdict["criteria"]["better"]["value"]
    )
