"""Metrics of a classifier on cells that it has not seen."""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from pipelines.evaluation.calibration_metrics import squared_errors
from pipelines.evaluation.intervals import (
    LEVEL,
    SHARE,
    Interval,
    Spread,
    Units,
    auc_without,
    counts_without,
    interval,
    mean_without,
)
from pipelines.evaluation.metrics_report import Score, SubsetMetrics

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]


def score(targets: Indices, probabilities: Floats, classes: list[str]) -> Score:
    """Return the metrics of (n, K) probabilities for cells of the (n,) classes `targets`."""
    matrix = confusion_counts(targets, probabilities.argmax(1), len(classes))
    rates = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    one_against_rest = [(name, targets == i, probabilities[:, i]) for i, name in enumerate(classes)]
    return Score(
        cells=len(targets),
        **{name: float(metric(matrix[None].astype(float))[0]) for name, metric in CONFUSION_METRICS.items()},
        auc={name: float(roc_auc_score(positive, scores)) for name, positive, scores in one_against_rest},
        average_precision={
            name: float(average_precision_score(positive, scores)) for name, positive, scores in one_against_rest
        },
        confusion=matrix.tolist(),
        confusion_rates=rates.round(4).tolist(),
    )


def intervals(
    targets: Indices, probabilities: Floats, units: Units, classes: list[str], shares: Floats
) -> dict[str, Interval]:
    """Return the 95 % intervals of metrics of `score`, and of `brier`, from a jackknife over `units`.

    (n,) `shares` weight the cells of the Brier score (`calibration_metrics.class_weights`).
    """
    counts = counts_without(targets, probabilities.argmax(1), units, len(classes))
    limits = {
        name: interval(metric(counts), units, RANGES.get(name, SHARE)) for name, metric in CONFUSION_METRICS.items()
    }
    errors = mean_without(squared_errors(targets, probabilities), targets, shares, units)
    limits["brier"] = interval(errors, units, RANGES["brier"])
    for i, name in enumerate(classes):
        limits[f"auc.{name}"] = interval(auc_without(probabilities[:, i], targets == i, units), units)
    return limits


def lower_bound(targets: Indices, predicted: Indices, units: Units, classes: int) -> float:
    """Return what the balanced accuracy is at least: the lower end of its 95 % interval, from two groups a class on."""
    counts = counts_without(targets, predicted, units, classes)
    ends = interval(balanced_accuracy(counts), units)
    if not ends.degenerate:
        return ends.low
    # Every unit gives the same: what is left is the chance of so many cells, with one more of each kind (Laplace).
    cells = counts[0].sum(1)
    rates = (np.diagonal(counts[0]) + 1) / (cells + 2)
    error = float(np.sqrt((rates * (1 - rates) / np.maximum(cells, 1)).sum())) / classes
    return ends.value - Spread(error, len(units.stratum) - classes).quantile((1 + LEVEL) / 2)


def confusion_counts(targets: Indices, predicted: Indices, size: int) -> Indices:
    """Return the (K, K) confusion counts, true class by row."""
    counts: Indices = np.bincount(targets * size + predicted, minlength=size**2).reshape(size, size)
    return counts


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
RANGES = {"mcc": (-1.0, 1.0), "brier": (0.0, 2.0)}
"""Range of the metrics that are no shares."""


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
