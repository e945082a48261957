"""The pipeline of the tests: its parameters, and its last stage."""

import json

from pipelines.stages import audit, card, evaluate, ingest, quality, register, split, train, tune

CHANGES = {
    "split.seed": 7,  # the test groups are those of `old_version`, which was made when they were dealt in another way
    "train.backbone": "compact",
    "train.epochs": 20,
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
    "calibrate.folds": 2,
    # Of these cells, features alone reach everything that a network can, and one group of a class is for the test.
    "gate.signed_off": {"binary": {"name": "Test", "reason": "made up", "criteria": ["baselines", "replicates"]}},
    "ensemble.members": 1,  # one network, which tests of the registry set by hand
}


def run_stages(folder, params, task="binary"):
    """Run the stages up to the card of `task` on the cells in `folder/data`."""
    artifacts, reports = folder / "artifacts", folder / "reports"
    cells, parts, models = artifacts / "cells", artifacts / "splits.parquet", artifacts / task
    of_task, best = reports / task, models / "best.json"
    ingest.main(params, folder / "data", cells)
    table, counts, drawn = artifacts / "quality.parquet", reports / "quality.json", reports / "quality"
    quality.main(params, cells, table, counts, drawn)
    split.main(params, cells, parts, table)
    audit.main(params, cells, parts, reports / "audit.json", reports / "audit")
    tune.main(params, task, cells, parts, models / "study.journal", best, of_task / "search")
    train.main(params, task, cells, parts, best, models, table)
    evaluate.main(
        params, task, cells, parts, reports / "audit.json", models, models / "predictions.parquet",
        of_task / "metrics.json", of_task / "plots", of_task / "tables",
    )  # fmt: skip
    card.main(
        params,
        task,
        cells,
        models,
        of_task / "metrics.json",
        reports / "audit.json",
        of_task / "plots",
        of_task,
        counts,
        drawn,
    )


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
