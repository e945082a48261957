"""The tables behind the plots of an evaluation, which `dvc plots` draws too."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from pipelines.evaluation import calibration_metrics
from pipelines.evaluation.evaluated_model import EvaluatedModel

POINTS = 200
"""Points of a curve that are kept."""
Tables = dict[str, pd.DataFrame]
"""`roc`, `reliability`, `risk_coverage` and `confusion`."""


def tabulate(evaluated: EvaluatedModel, bins: int) -> Tables:
    """Return the tables of one model; `reliability` has `bins` bins before and after calibration."""
    classes, targets = evaluated.model.spec.classes, evaluated.targets
    before, after = (
        calibration_metrics.reliability_diagram(targets, probabilities, bins, evaluated.weights)
        for probabilities in (evaluated.uncalibrated, evaluated.probabilities)
    )
    names = np.array(classes)
    return {
        "roc": pd.concat([_roc(evaluated, index) for index in range(len(classes))]),
        "reliability": pd.concat([before.assign(when="before"), after.assign(when="after")]),
        "risk_coverage": calibration_metrics.risk_coverage(targets, evaluated.probabilities),
        "confusion": pd.DataFrame({"labelled": names[targets], "called": names[evaluated.predicted]}),
    }


def _roc(evaluated: EvaluatedModel, index: int) -> pd.DataFrame:
    """Return the ROC curve of one class against the rest."""
    false, true, _ = roc_curve(evaluated.targets == index, evaluated.probabilities[:, index])
    kept = np.unique(np.linspace(0, len(false) - 1, min(POINTS, len(false))).astype(int))
    name = evaluated.model.spec.classes[index]
    return pd.DataFrame({"class": name, "false_positive": false[kept], "true_positive": true[kept]})


def write_tables(by_scheme: dict[str, Tables], target: Path) -> None:
    """Write each table of all schemes as one CSV file in the folder `target`; its column `split` is the scheme."""
    target.mkdir(parents=True, exist_ok=True)
    for name in next(iter(by_scheme.values())):
        table = pd.concat([tables[name].assign(split=scheme) for scheme, tables in by_scheme.items()])
        table.to_csv(target / f"{name}.csv", index=False)
