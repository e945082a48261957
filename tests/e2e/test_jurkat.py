"""The whole line on real images, in a copy of the project, as a laboratory would run it."""

import json

import pandas as pd
import pytest

from tests.support.params import write_params
from tests.support.presets import preset
from tests.support.project import copied, run
from tests.support.servers import serving

# The share and the small network keep this within a minute or two; what it says of cells is in the README's table.
QUICK = {
    "ingest.share": 0.1,
    "train.backbone": "compact",
    "train.epochs": 10,
    "train.learning_rate": 5e-3,
    "train.batch_size": 32,
    "train.seeds": [0],
    "train.threads": 1,
    "train.minutes": 60,  # no result depends on how fast this machine is
    "tune.minutes": 60,
    "calibrate.folds": 2,
    # G2 and S_phase are of one group each, which nobody but a person can answer for.
    "gate.signed_off": {"multiclass": {"name": "Test", "reason": "one montage each", "criteria": ["grouped"]}},
    "gate.max_calibration_error": 0.25,  # of 126 test cells, chance alone makes half of that
    "evaluate.mixtures": 20,
    "audit.folds": 3,
    "tune.trials": 2,
    "tune.epochs": 2,
    "tune.min_epochs": 1,
    "tune.space": {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}},
    "ensemble.members": 1,
}


@pytest.mark.slow
@pytest.mark.long
def test_the_line_on_jurkat_cells_up_to_http(tmp_path, unpack):
    project = copied(tmp_path / "project")
    unpack("jurkat_ifc", project / "data")
    write_params(project, preset("jurkat_ifc") | QUICK)
    run(project, "dvc", "repro")

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

    again = run(project, "dvc", "repro")
    # Only the registry is asked again, and it knows the model.
    assert again.count("Running stage") == 1, again
    assert "Running stage 'register@multiclass'" in again
