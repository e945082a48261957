"""The pipeline of the tests: its parameters, and its last stage."""

import json

from pipelines.stages import register

CHANGES = {
    "train.backbone": "compact",
    "train.epochs": 40,
    "train.batch_size": 8,
    "train.learning_rate": 0.01,
    "train.seeds": [0, 1],
    "train.threads": 1,
    "train.minutes": 60,  # no result depends on how fast this machine is
    "tune.minutes": 60,
    "dataset.tasks": {"binary": ["oligodendrocyte", "astrocyte"]},
    "tune.trials": 2,
    "tune.epochs": 2,
    "tune.min_epochs": 1,
    "tune.space": {"learning_rate": {"low": 5e-3, "high": 1e-2, "log": True}},
    "train.patience": 99,
    "gate.signed_off": {"binary": {"name": "Test", "reason": "one test group of each", "criteria": ["replicates"]}},
    "ensemble.members": 1,  # one network, which tests of the registry set by hand
}


def run_register(folder, models=None, metrics=None):
    """Register what is in `models`, with the metrics of the file `metrics`; by default those of the pipeline."""
    reports = folder / "reports/binary"
    register.main(
        folder / "params.yaml",
        "binary",
        folder / "artifacts/cells",
        folder / "artifacts/splits.parquet",
        models or folder / "artifacts/binary",
        metrics or reports / "metrics.json",
        folder / "reports/audit.json",
        reports / "card",
        reports / "gate.json",
    )
    return json.loads((reports / "gate.json").read_text())
