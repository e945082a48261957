"""Figures of a classifier on cells that it has not seen."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from fatescope.inference import composition
from fatescope.inference.uncertainty import Assessment
from pipelines.evaluation import bootstrap
from pipelines.evaluation.bootstrap import Weights

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]


def score(targets: Indices, probabilities: Floats, classes: list[str]) -> dict[str, Any]:
    """Return the figures of (n,) true class indices and (n, K) probabilities.

    `accuracy`, `balanced_accuracy`, `macro_f1`, `mcc` (Matthews correlation); `auc` and `average_precision`: class →
    of that class against the rest; `confusion`: (K, K) counts, true class by row, and `confusion_rates`.
    """
    counts = confusions(targets, probabilities.argmax(1), np.ones((1, len(targets))), len(classes))
    matrix = counts[0].astype(int)
    rates = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    return {
        "cells": len(targets),
        **{name: float(figure(counts)[0]) for name, figure in OF_CONFUSION.items()},
        "auc": {name: float(roc_auc_score(targets == i, probabilities[:, i])) for i, name in enumerate(classes)},
        "average_precision": {
            name: float(average_precision_score(targets == i, probabilities[:, i])) for i, name in enumerate(classes)
        },
        "confusion": matrix.tolist(),
        "confusion_rates": rates.round(4).tolist(),
    }


def bounds(
    targets: Indices, probabilities: Floats, weights: Weights, classes: list[str], shares: Floats
) -> dict[str, list[float]]:
    """Return the 95 % intervals `[low, high]` of figures of `score` and of `brier` under (1 + R, n) weights.

    (n,) `shares` are what cells count by in the Brier score besides (`weigh`), as in that of `calibration`.
    """
    counts = confusions(targets, probabilities.argmax(1), weights, len(classes))
    drawn = {name: figure(counts) for name, figure in OF_CONFUSION.items()}
    errors = squares(targets, probabilities)
    drawn["brier"] = np.array([np.average(errors, weights=each * shares) for each in weights])
    for i, name in enumerate(classes):
        drawn[f"auc.{name}"] = bootstrap.auc(probabilities[:, i], targets == i, weights)
    found = {name: bootstrap.interval(values) for name, values in drawn.items()}
    return {name: [each.low, each.high] for name, each in found.items()}


def confusions(targets: Indices, called: Indices, weights: Weights, size: int) -> Floats:
    """Return (R, K, K) confusion counts, true class by row, under (R, n) weights."""
    cells = targets * size + called
    counts: Floats = np.stack([np.bincount(cells, each, size * size) for each in weights]).astype(np.float64)
    return counts.reshape(-1, size, size)


def accuracy(counts: Floats) -> Floats:
    """Return the (R,) share of cells called right."""
    share: Floats = np.trace(counts, axis1=1, axis2=2) / np.maximum(counts.sum((1, 2)), 1e-12)
    return share


def balanced_accuracy(counts: Floats) -> Floats:
    """Return the (R,) mean over classes that occur of the share called right."""
    totals = counts.sum(2)
    rates = np.diagonal(counts, axis1=1, axis2=2) / np.where(totals > 0, totals, np.nan)
    mean: Floats = np.nanmean(rates, axis=1)
    return mean


def macro_f1(counts: Floats) -> Floats:
    """Return the (R,) mean F1 over classes; 0 for a class that is neither there nor called."""
    right = np.diagonal(counts, axis1=1, axis2=2)
    mean: Floats = (2 * right / np.maximum(counts.sum(1) + counts.sum(2), 1e-12)).mean(1)
    return mean


def mcc(counts: Floats) -> Floats:
    """Return the (R,) Matthews correlation, for several classes as Gorodkin (2004) defines it."""
    right, total = np.trace(counts, axis1=1, axis2=2), counts.sum((1, 2))
    true, called = counts.sum(2), counts.sum(1)
    top = right * total - (true * called).sum(1)
    bottom = np.sqrt((total**2 - (called**2).sum(1)) * (total**2 - (true**2).sum(1)))
    correlation: Floats = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
    return correlation


OF_CONFUSION = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1, "mcc": mcc}


def squares(targets: Indices, probabilities: Floats) -> Floats:
    """Return the (n,) squared errors whose mean is the Brier score, 0 to 2."""
    wrong = probabilities.astype(np.float64).copy()
    wrong[np.arange(len(targets)), targets] -= 1
    errors: Floats = (wrong**2).sum(1)
    return errors


def weigh(targets: Indices, prior: Floats) -> Floats:
    """Return (n,) weights that give the classes the shares `prior`, with a mean of 1.

    Probabilities are calibrated for those shares: among cells of another mixture they cannot be, and need not.
    """
    counts = np.bincount(targets, minlength=len(prior))
    weights = (prior / np.maximum(counts, 1))[targets]
    scaled: Floats = weights / weights.mean()
    return scaled


def reliability(targets: Indices, probabilities: Floats, bins: int, weights: Floats) -> pd.DataFrame:
    """Return the reliability diagram: `confidence`, `accuracy` and `cells` of bins with equal numbers of cells.

    Cells count by (n,) `weights`, and `cells` is their sum.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    order = np.argsort(confidence, kind="stable")
    rows = []
    for part in np.array_split(order, bins):
        if len(part):
            mean = [np.average(each[part], weights=weights[part]) for each in (confidence, right)]
            rows.append((*mean, weights[part].sum()))
    return pd.DataFrame(rows, columns=["confidence", "accuracy", "cells"])


def calibration(targets: Indices, probabilities: Floats, bins: int, weights: Floats) -> dict[str, float]:
    """Return `ece` (expected calibration error, bins of equal size), `brier`, and `loss` (nats), cells by `weights`."""
    diagram = reliability(targets, probabilities, bins, weights)
    gap = (diagram["confidence"] - diagram["accuracy"]).abs()
    likelihood = np.maximum(probabilities[np.arange(len(targets)), targets], 1e-12)
    return {
        "ece": float((gap * diagram["cells"]).sum() / diagram["cells"].sum()),
        "brier": float(np.average(squares(targets, probabilities), weights=weights)),
        "loss": float(np.average(-np.log(likelihood), weights=weights)),
    }


def risk_coverage(targets: Indices, probabilities: Floats) -> pd.DataFrame:
    """Return the error (`risk`) among the most confident share (`coverage`) of cells, in at most 200 steps."""
    order = np.argsort(-probabilities.max(1), kind="stable")
    wrong = (probabilities.argmax(1) != targets)[order]
    kept = np.arange(1, len(wrong) + 1)
    curve = pd.DataFrame({"coverage": kept / len(wrong), "risk": np.cumsum(wrong) / kept})
    return curve.iloc[np.unique(np.linspace(0, len(curve) - 1, min(200, len(curve))).astype(int))]


def trust(targets: Indices, judged: Assessment, classes: list[str]) -> dict[str, Any]:
    """Return how the promises hold: conformal `coverage`, in all and `by_class`, mean `set_size`, and verdicts.

    `unlike` and `unsure` are shares of all cells; `accuracy_of_sure` is that of the others.
    """
    inside = judged.sets[np.arange(len(targets)), targets]
    right, sure = judged.probabilities.argmax(1) == targets, judged.verdicts == "sure"
    return {
        "coverage": float(inside.mean()),
        "coverage_by_class": {
            name: float(inside[targets == i].mean()) for i, name in enumerate(classes) if (targets == i).any()
        },
        "set_size": float(judged.sets.sum(1).mean()),
        "unlike": float((judged.distance > 1).mean()),
        "unsure": float((judged.verdicts == "unsure").mean()),
        "accuracy_of_sure": float(right[sure].mean()) if sure.any() else None,
    }


def by_value(facts: Texts, targets: Indices, called: Indices) -> dict[str, dict[str, float]]:
    """Return for each value of a fact of the cells: `cells`, `accuracy`, and `balanced_accuracy` over its classes."""
    answer = {}
    for value in np.unique(facts):
        rows = facts == value
        right = (called == targets)[rows]
        by_class = [right[targets[rows] == k].mean() for k in np.unique(targets[rows])]
        answer[str(value)] = {
            "cells": int(rows.sum()),
            "accuracy": float(right.mean()),
            "balanced_accuracy": float(np.mean(by_class)),
        }
    return answer


def try_compositions(
    targets: Indices,
    probabilities: Floats,
    groups: Texts,
    prior: Floats,
    error: Floats,
    mixtures: int,
    cells: int,
    seed: int,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Estimate `mixtures` simulated cultures of `cells` test cells each, by expectation maximisation and by counting.

    In each culture the cells of a class come from one acquisition group, as they would from one run. Returns
    `mean_error` and `mean_error_of_counting` (mean absolute error of a share), `interval_coverage` (of a share; 0.95 is
    promised) and `interval_width`, and a table of `class`, `truth`, `estimated`, `counted`.
    """
    rng, size = np.random.default_rng(seed), probabilities.shape[1]
    rows, inside, widths = [], [], []
    for _ in range(mixtures):
        truth = rng.multinomial(cells, rng.dirichlet(np.ones(size)))
        drawn = []
        for k, count in enumerate(truth):
            of_class = np.flatnonzero(targets == k)
            group = rng.choice(np.unique(groups[of_class]))
            drawn.append(rng.choice(of_class[groups[of_class] == group], count))
        chosen = np.concatenate(drawn).astype(int)
        found = composition.estimate(probabilities[chosen], prior, error)
        counted = np.bincount(probabilities[chosen].argmax(1), minlength=size) / cells
        shares = truth / cells
        inside.append((found.low <= shares) & (shares <= found.high))
        widths.append(found.high - found.low)
        rows += [(k, shares[k], found.shares[k], counted[k]) for k in range(size)]
    table = pd.DataFrame(rows, columns=["class", "truth", "estimated", "counted"])
    figures = {
        "mean_error": float((table["estimated"] - table["truth"]).abs().mean()),
        "mean_error_of_counting": float((table["counted"] - table["truth"]).abs().mean()),
        "interval_coverage": float(np.mean(inside)),
        "interval_width": float(np.mean(widths)),
    }
    return figures, table
