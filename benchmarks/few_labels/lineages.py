"""Nine lineages in unequal numbers, with neurons and glia as coarse classes.

3,000 cells that `fatescope data simulate` draws with the preset `lineages`, divided by run; a compact network with the
settings of `params.yaml`, calibrated by cross-fitting as in the stage `train`.
"""

import json
from pathlib import Path

import numpy as np

from benchmarks.accuracy import SEED
from benchmarks.few_labels.sets import Sets
from benchmarks.tables import Row
from fatescope import config
from fatescope.config.presets import get_preset
from fatescope.inference.uncertainty import Prediction, assess
from pipelines.commands import simulate
from pipelines.evaluation import intervals, metrics
from pipelines.evaluation.calibration_metrics import trust
from pipelines.stages import ingest, split
from pipelines.training import coarse_calibration, selection
from pipelines.training.candidate_fits import untracked
from pipelines.training.context import TrainingContext, load_context
from pipelines.training.cross_fit import deal_folds
from pipelines.training.prediction import predict

TASK = "lineages"
ANSWERS = {
    "fine": "called by the class",
    "coarse": "called by the coarse class",
    "unsure": "not sure",
    "unlike": "unlike the training cells",
}
COVERED = ">= 0.88"
"""The coverage that sets are calibrated for, 0.9, less what chance takes among so many test cells."""


def measure(sets: Sets) -> list[Row]:
    """Train, and return what the network says of the test cells."""
    context = _prepare(sets)
    params, classes = context.params, context.classes
    examples = context.examples("grouped")
    folds = deal_folds(examples, context.groups, params.calibrate, whole=True)
    settings = params.train
    [candidate] = selection.train_candidates(examples, folds, len(classes), [[settings]], params, untracked)
    refit = selection.refit_candidate(candidate, examples, len(classes), SEED, params, untracked)
    test = context.splits.indices("grouped", "test", classes)
    output, calibration = predict(refit.network, context.cells.pixels, test), candidate.calibration
    assessment = assess(
        Prediction.of(output.logits, output.embedding).probabilities,
        refit.outliers.score(output.embedding) / np.float32(calibration.outlier_threshold),
        calibration.conformal,
    )
    targets, names = examples.targets[test], np.array(classes)
    units = intervals.choose_units(context.groups[test].astype(str), names[targets])
    ends = metrics.intervals(targets, assessment.probabilities, units, classes, np.ones(len(test)))
    hierarchy, unseen = params.dataset.hierarchy[TASK], candidate.unseen
    thresholds = coarse_calibration.fit_thresholds(
        coarse_calibration.assess_unseen(unseen, calibration),
        examples.targets[unseen.rows],
        context.groups[unseen.rows],
        classes,
        hierarchy,
        params.calibrate.coverage,
    )
    found = trust(targets, assessment, classes, hierarchy, thresholds)
    accuracy, scarce = ends["balanced_accuracy"], min(found.coverage_by_class, key=found.coverage_by_class.__getitem__)
    assert found.calls is not None, "the task has coarse classes"
    rows = [
        Row(
            f"balanced accuracy of nine classes, {len(test)} test cells",
            {"value": accuracy.value, "from": accuracy.low, "to": accuracy.high},
        )
    ]
    for name, text in ANSWERS.items():
        call = getattr(found.calls, name)
        right = {} if call.accuracy is None else {"of them right": call.accuracy}
        bars = {"of them right": COVERED} if name == "coarse" else {}
        rows.append(Row(text, {"share of cells": call.share} | right, bars))
    for name in hierarchy:
        known = {"value": thresholds[name]} if name in thresholds else {}
        rows.append(Row(f"{name}: called from" if known else f"{name}: not called, no threshold holds", known))
    rows.append(Row("sets that hold the class", {"value": found.coverage}, {"value": COVERED}))
    rows.append(Row(f"the same, lowest of a class ({scarce})", {"value": found.coverage_by_class[scarce]}))
    return rows


def _prepare(sets: Sets) -> TrainingContext:
    """Draw and ingest the cells, unless they are there; return the context of training."""
    folder = sets.work / TASK
    if not (folder / "splits.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        content = json.loads(sets.params.model_dump_json(by_alias=True))
        for section, fields in get_preset(TASK).values().items():
            content[section] |= fields
        content["train"] |= {"threads": 1} | ({"epochs": 2} if sets.small else {})
        content["simulate"] |= {"marker_channels": 0, "darkfield": False}
        if sets.small:
            content["simulate"]["cells"] //= 4
        (folder / "params.yaml").write_text(json.dumps(content), encoding="utf-8")
        simulate.simulate(config.load(folder / "params.yaml").simulate, folder / "data")
        ingest.main(folder / "params.yaml", folder / "data", folder / "cells")
        split.main(folder / "params.yaml", folder / "cells", folder / "splits.parquet")
    params = config.load(Path(folder / "params.yaml"))
    return load_context(params, TASK, folder / "cells", folder / "splits.parquet", "")
