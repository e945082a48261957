"""Metrics of a classifier on cells that it has not seen."""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from pipelines.evaluation import bootstrap
from pipelines.evaluation.bootstrap import Weights
from pipelines.evaluation.calibration_metrics import squared_errors
from pipelines.evaluation.metrics_report import Score, SubsetMetrics

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]


def score(targets: Indices, probabilities: Floats, classes: list[str]) -> Score:
    """Return the metrics of (n, K) probabilities for cells of the (n,) classes `targets`."""
    counts = confusion_counts(targets, probabilities.argmax(1), np.ones((1, len(targets))), len(classes))
    matrix = counts[0].astype(int)
    rates = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    one_against_rest = [(name, targets == i, probabilities[:, i]) for i, name in enumerate(classes)]
    return Score(
        cells=len(targets),
        **{name: float(metric(counts)[0]) for name, metric in CONFUSION_METRICS.items()},
        auc={name: float(roc_auc_score(positive, scores)) for name, positive, scores in one_against_rest},
        average_precision={
            name: float(average_precision_score(positive, scores)) for name, positive, scores in one_against_rest
        },
        confusion=matrix.tolist(),
        confusion_rates=rates.round(4).tolist(),
    )


def intervals(
    targets: Indices, probabilities: Floats, weights: Weights, classes: list[str], shares: Floats
) -> dict[str, list[float]]:
    """Return the 95 % intervals `[low, high]` of metrics of `score` and of `brier` under (1 + R, n) weights.

    (n,) `shares` also weight the cells of the Brier score (`calibration_metrics.class_weights`).
    """
    counts = confusion_counts(targets, probabilities.argmax(1), weights, len(classes))
    drawn = {name: metric(counts) for name, metric in CONFUSION_METRICS.items()}
    errors = squared_errors(targets, probabilities)
    drawn["brier"] = np.array([np.average(errors, weights=draw * shares) for draw in weights])
    for i, name in enumerate(classes):
        drawn[f"auc.{name}"] = bootstrap.auc(probabilities[:, i], targets == i, weights)
    limits = {name: bootstrap.interval(values) for name, values in drawn.items()}
    return {name: [interval.low, interval.high] for name, interval in limits.items()}


def confusion_counts(targets: Indices, predicted: Indices, weights: Weights, size: int) -> Floats:
    """Return (R, K, K) confusion counts, true class by row, under (R, n) weights."""
    cells = targets * size + predicted
    counts: Floats = np.stack([np.bincount(cells, draw, size * size) for draw in weights]).astype(np.float64)
    return counts.reshape(-1, size, size)


def accuracy(counts: Floats) -> Floats:
    """Return the (R,) accuracy."""
    share: Floats = np.trace(counts, axis1=1, axis2=2) / np.maximum(counts.sum((1, 2)), 1e-12)
    return share


def balanced_accuracy(counts: Floats) -> Floats:
    """Return the (R,) mean recall over the classes that occur."""
    totals = counts.sum(2)
    rates = np.diagonal(counts, axis1=1, axis2=2) / np.where(totals > 0, totals, np.nan)
    mean: Floats = np.nanmean(rates, axis=1)
    return mean


def macro_f1(counts: Floats) -> Floats:
    """Return the (R,) mean F1 over classes; 0 for a class that neither occurs nor is predicted."""
    right = np.diagonal(counts, axis1=1, axis2=2)
    mean: Floats = (2 * right / np.maximum(counts.sum(1) + counts.sum(2), 1e-12)).mean(1)
    return mean


def mcc(counts: Floats) -> Floats:
    """Return the (R,) Matthews correlation coefficient, for several classes as Gorodkin (2004) defines it."""
    right, total = np.trace(counts, axis1=1, axis2=2), counts.sum((1, 2))
    true, predicted = counts.sum(2), counts.sum(1)
    top = right * total - (true * predicted).sum(1)
    bottom = np.sqrt((total**2 - (predicted**2).sum(1)) * (total**2 - (true**2).sum(1)))
    correlation: Floats = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
    return correlation


CONFUSION_METRICS = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1, "mcc": mcc}
"""Metrics that follow from (R, K, K) confusion counts."""


def subset_metrics(values: Texts, targets: Indices, predicted: Indices) -> dict[str, SubsetMetrics]:
    """Return the metrics on the cells of each of the (n,) `values` of a fact."""
    subsets = {}
    for value in np.unique(values):
        rows = values == value
        correct = (predicted == targets)[rows]
        recalls = [correct[targets[rows] == k].mean() for k in np.unique(targets[rows])]
        subsets[str(value)] = SubsetMetrics(
            cells=int(rows.sum()), accuracy=float(correct.mean()), balanced_accuracy=float(np.mean(recalls))
        )
    return subsets
