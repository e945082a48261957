"""Say how good a model is on cells that it has not seen: on the grouped split and, beside it, on the random one.

Predictions come from the exported graph, so that what is measured is what is served.

`metrics.json`: `task`, `classes`, `simulated`, `confounded`, for each split under `splits` the figures of `score`, and
under `audit` what the audit says of these classes: the worst `verdict`, and that of each pair.
`predictions.parquet`: one row a test cell and split; columns `split`, `cell_id`, `label`, `predicted`, and the
probability of each class as `p_CLASS`.
"""

import json
import logging
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    roc_auc_score,
)
from tqdm import tqdm

from pipelines import tracking
from pipelines.core import bundle, cells, splits
from pipelines.core.cells import Cells
from pipelines.core.command import run
from pipelines.core.params import load

log = logging.getLogger(__name__)

BATCH = 256
"""Cells that the graph is given at a time."""


def predict(model: bundle.Bundle, source: Cells, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the (n, K) probabilities of the cells in `rows`."""
    starts = tqdm(range(0, len(rows), BATCH), desc="predict", unit="batch", delay=1)
    return np.concatenate([model.predict(source.pixels[rows[i : i + BATCH]]).probabilities for i in starts])


def score(targets: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], classes: list[str]) -> dict[str, Any]:
    """Return the figures of (n,) true class indices and (n, K) probabilities.

    `accuracy`, `balanced_accuracy`, `macro_f1`; `auc`: class → area under the ROC curve of that class against the
    rest; `confusion`: (K, K) counts, true class by row.
    """
    called, labels = probabilities.argmax(1), range(len(classes))
    return {
        "cells": len(targets),
        "accuracy": float(accuracy_score(targets, called)),
        "balanced_accuracy": float(balanced_accuracy_score(targets, called)),
        "macro_f1": float(f1_score(targets, called, average="macro", labels=labels, zero_division=0)),
        "auc": {name: float(roc_auc_score(targets == i, probabilities[:, i])) for i, name in enumerate(classes)},
        "confusion": confusion_matrix(targets, called, labels=labels).tolist(),
    }


def draw_confusion(confusion: list[list[int]], classes: list[str], title: str) -> Figure:
    """Draw counts, shaded by the share of the true class."""
    counts = np.array(confusion)
    rates = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(2.2 + 0.9 * len(classes), 1.8 + 0.8 * len(classes)), layout="constrained")
    axes = figure.subplots()
    ConfusionMatrixDisplay(rates, display_labels=classes).plot(
        ax=axes, cmap="Blues", colorbar=False, include_values=False, im_kw={"vmin": 0, "vmax": 1}
    )
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if rates[row, column] > 0.5 else "black"
        text = f"{count}\n{rates[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set(xlabel="called", ylabel="labelled", title=title)
    axes.tick_params(axis="x", rotation=20)
    return figure


def main(
    params: Path,
    task: str,
    source: Path,
    parts: Path,
    audit: Path,
    models: Path,
    predictions: Path,
    target: Path,
    plots: Path,
) -> None:
    """Evaluate what TASK's train stage wrote into MODELS; write PREDICTIONS, figures to TARGET, and PLOTS."""
    mpl.use("Agg")
    settings, known, divided = load(params), cells.load(source), splits.load(parts)
    classes, run_ids = settings.classes(task), tracking.load_run_ids(models / "runs.json")
    plots.mkdir(parents=True, exist_ok=True)
    results, tables, simulated, warned = {}, [], False, audit_of(json.loads(audit.read_text()), classes)
    for i, split in enumerate(divided.available(classes)):
        folder = models / "bundle" if i == 0 else models / "compared" / split
        model = bundle.load(folder, settings.train.threads)
        simulated = model.spec.simulated
        rows = divided.indices(split, "test", classes)
        probabilities = predict(model, known, rows)
        labels = known.manifest["label"].to_numpy()[rows]
        results[split] = score(np.array([classes.index(x) for x in labels]), probabilities, classes)
        tables.append(_table(split, known.manifest["cell_id"].to_numpy()[rows], labels, probabilities, classes))
        figure = draw_confusion(results[split]["confusion"], classes, f"{task}, {split} split")
        figure.savefig(plots / f"confusion_{split}.png", dpi=150)
        with tracking.resumed(task, split, run_ids[split]):
            mlflow.log_metrics({k: v for k, v in tracking.flatten({"test": results[split]}).items() if np.isscalar(v)})
            mlflow.log_artifact(str(plots / f"confusion_{split}.png"))
            mlflow.log_artifact(str(audit))
            mlflow.set_tag("audit", warned["verdict"])
        log.info("%s, %s split: balanced accuracy %.3f", task, split, results[split]["balanced_accuracy"])
    content = {
        "task": task,
        "classes": classes,
        "simulated": simulated,
        "confounded": divided.confounded_in(classes),
        "splits": results,
        "audit": warned,
    }
    target.write_text(json.dumps(content, indent=2) + "\n")
    pd.concat(tables).to_parquet(predictions, index=False)


def audit_of(report: dict[str, Any], classes: list[str]) -> dict[str, Any]:
    """Return what the audit says of `classes`: `verdict`, the worst of any pair, and `pairs`."""
    keys = ("classes", "verdict", "verdict_normalised", "confounded")
    pairs = [{key: each[key] for key in keys} for each in report["pairs"] if set(each["classes"]) <= set(classes)]
    worst = max((each["verdict"] for each in pairs), key=("clean", "suspect", "shortcut").index, default="unknown")
    return {"verdict": worst, "pairs": pairs}


def _table(
    split: str,
    cell_ids: npt.NDArray[np.object_],
    labels: npt.NDArray[np.object_],
    probabilities: npt.NDArray[np.float32],
    classes: list[str],
) -> pd.DataFrame:
    called = np.array(classes)[probabilities.argmax(1)]
    columns = {"split": split, "cell_id": cell_ids, "label": labels, "predicted": called}
    return pd.DataFrame(columns | {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)})


if __name__ == "__main__":
    run(main)
