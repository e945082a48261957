"""The whole line on real images, in a copy of the project, as a laboratory would run it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT, write_params
from tests.readme import preset
from tests.serving import serving

# The share and the small network keep this within a minute or two; what it says of cells is in the README's table.
QUICK = {
    "ingest.share": 0.15,
    "train.backbone": "compact",
    "train.epochs": 10,
    "train.learning_rate": 5e-3,
    "train.batch_size": 32,
    "train.seeds": [0],
    "train.threads": 1,
    "gate.max_calibration_error": 0.25,  # of 189 test cells, chance alone makes half of that
    "tune.trials": 2,
    "tune.epochs": 2,
    "tune.min_epochs": 1,
    "tune.space": {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Copy what git knows of the project, so that nothing of a developer's own runs comes along."""
    folder = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


@pytest.mark.slow
def test_the_line_on_jurkat_cells_up_to_http(project, unpack):
    unpack("jurkat_ifc", project / "data")
    write_params(project, preset("jurkat_ifc") | QUICK)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(["dvc", "repro"], cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]

    metrics = json.loads((project / "reports/multiclass/metrics.json").read_text())
    assert set(metrics["confounded"]) == {"G2", "S_phase"}
    assert list(metrics["splits"]) == ["random"]
    assert metrics["splits"]["random"]["balanced_accuracy"] > 0.4

    predictions = pd.read_parquet(project / "artifacts/multiclass/predictions.parquet")
    # In the numbers that evaluation used; the engine that is chosen by itself may round them.
    exact = {"PYTHONPATH": str(project), "FATESCOPE_ENGINE": "onnxruntime"}
    with serving(project, project, exact) as client:
        for _, cell in predictions.groupby("label").head(2).iterrows():
            raw = (project / "data" / cell["cell_id"]).read_bytes()
            answer = client.post("/classify", files={"image": (cell["cell_id"], raw)}).raise_for_status().json()
            assert answer["label"] == cell["predicted"]
            for name, probability in answer["probabilities"].items():
                assert probability == pytest.approx(cell[f"p_{name}"], abs=1e-3)
            assert answer["model"]["name"] == "fatescope-multiclass"
            assert answer["model"]["version"] == "1"

    again = subprocess.run(["dvc", "repro"], cwd=project, env=environment, capture_output=True, text=True, check=False)
    # Only the registry is asked again, and it knows the model.
    assert again.stdout.count("Running stage") == 1, again.stdout
    assert "Running stage 'register@multiclass'" in again.stdout
