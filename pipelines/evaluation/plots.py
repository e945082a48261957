"""Plots of how good a model is."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

from pipelines.evaluation import track_metrics
from pipelines.evaluation.metrics_report import CompositionMetrics, SchemeMetrics, SubsetMetrics
from pipelines.evaluation.scheme_evaluation import SchemeEvaluation
from pipelines.evaluation.track_report import TrackMetrics

COLOURS = ("#2166ac", "#b2182b", "#1b7837", "#762a83", "#e08214", "#4d4d4d", "#01665e", "#8c510a")
GREY = "#8a8a8a"
TRACKS = "tracks"
"""The plot of cells with several images, where there are any."""


def draw(evaluation: SchemeEvaluation) -> dict[str, Figure]:
    """Return the plots of one model by name."""
    spec, metrics, tables = evaluation.evaluated.model.spec, evaluation.metrics, evaluation.tables
    title = f"{spec.task}, {spec.split} split" + (", simulated cells" if spec.simulated else "")
    groups, labels = (evaluation.manifest[name].astype(str) for name in ("group", "label"))
    drawn = {
        "confusion": draw_confusion(metrics.confusion, spec.classes, title),
        "roc": draw_roc(tables["roc"], metrics.auc, title),
        "reliability": draw_reliability(tables["reliability"], metrics, title),
        "risk_coverage": draw_risk_coverage(tables["risk_coverage"], title),
        "groups": draw_groups(metrics.by["group"], dict(zip(groups, labels, strict=True)), title),
        "composition": draw_composition(evaluation.cultures, spec.classes, metrics.composition, title),
    }
    return drawn | ({} if metrics.tracks is None else {TRACKS: draw_tracks(metrics.tracks, title)})


def draw_confusion(counts: list[list[int]], classes: list[str], title: str) -> Figure:
    """Draw the (K, K) counts, shaded by the share of the true class."""
    matrix = np.array(counts)
    rates = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(2.2 + 0.9 * len(classes), 1.8 + 0.8 * len(classes)), layout="constrained")
    axes = figure.subplots()
    ConfusionMatrixDisplay(rates, display_labels=classes).plot(
        ax=axes, cmap="Blues", colorbar=False, include_values=False, im_kw={"vmin": 0, "vmax": 1}
    )
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if rates[row, column] > 0.5 else "black"
        text = f"{count}\n{rates[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    axes.tick_params(axis="x", rotation=20)
    return figure


def draw_roc(curves: pd.DataFrame, areas: dict[str, float], title: str) -> Figure:
    """Draw the ROC curve of each class against the rest; `curves` has `class`, `false_positive`, `true_positive`."""
    figure, axes = _square(title, "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], ":", color=GREY)
    for colour, (name, area) in zip(COLOURS * 9, areas.items(), strict=False):
        line = curves[curves["class"] == name]
        axes.plot(line["false_positive"], line["true_positive"], color=colour, label=f"{name}, {area:.3f}")
    axes.legend(title="area under the curve", loc="lower right", frameon=False)
    return figure


def draw_reliability(diagram: pd.DataFrame, metrics: SchemeMetrics, title: str) -> Figure:
    """Draw accuracy against confidence; `diagram` has `confidence`, `accuracy`, and `when` (`before` or `after`)."""
    figure, axes = _square(title, "confidence", "accuracy")
    axes.plot([0, 1], [0, 1], ":", color=GREY)
    errors = {"before": metrics.calibration.before.ece, "after": metrics.calibration.after.ece}
    for (when, error), colour in zip(errors.items(), (COLOURS[1], COLOURS[0]), strict=True):
        bins = diagram[diagram["when"] == when]
        label = f"{when} temperature scaling (ECE {error:.3f})"
        axes.plot(bins["confidence"], bins["accuracy"], "o-", color=colour, label=label, markersize=4)
    lowest = max(0, diagram[["confidence", "accuracy"]].min().min() - 0.05)
    axes.set(xlim=(lowest, 1.01), ylim=(lowest, 1.01))
    axes.legend(loc="best", frameon=False)
    return figure


def draw_risk_coverage(curve: pd.DataFrame, title: str) -> Figure:
    """Draw the error rate among the most confident cells against the share of cells that they are."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes, overall = figure.subplots(), curve["risk"].iloc[-1]
    axes.plot(curve["coverage"], curve["risk"], color=COLOURS[0])
    axes.axhline(overall, linestyle=":", color=GREY)
    axes.annotate("error rate on all cells", (0.02, overall), color=GREY, va="bottom", fontsize=8)
    axes.set(xlabel="coverage: share of cells, most confident first", ylabel="error rate", title=title, xlim=(0, 1))
    axes.set_ylim(bottom=0)
    _hide_spines(axes)
    return figure


def draw_groups(groups: dict[str, SubsetMetrics], labels: dict[str, str], title: str) -> Figure:
    """Draw the accuracy in each acquisition group, coloured by class, the lowest at the bottom; at most 40 groups.

    `labels` is group → class. The whiskers are normal approximations of binomial 95 % intervals.
    """
    shown = sorted(groups, key=lambda name: -groups[name].accuracy)[-40:][::-1]
    colours = dict(zip(sorted(set(labels.values())), COLOURS * len(labels), strict=False))
    figure = Figure(figsize=(6, 1.2 + 0.24 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(shown):
        accuracy, cells, colour = groups[name].accuracy, groups[name].cells, colours[labels[name]]
        spread = 1.96 * np.sqrt(max(accuracy * (1 - accuracy), 0.25 / cells) / cells)
        ends = [max(0, accuracy - spread), min(1, accuracy + spread)]
        axes.plot(ends, [place, place], color=colour, linewidth=1)
        axes.plot(accuracy, place, "o", color=colour, markersize=5)
        axes.text(1.02, place, f"{cells}", va="center", fontsize=8, color=GREY)
    axes.set_yticks(range(len(shown)), shown, fontsize=8)
    for label, colour in colours.items():
        axes.plot([], [], "o", color=colour, label=label)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    axes.set(xlim=(0, 1), xlabel="accuracy (number of cells on the right)", title=title)
    _hide_spines(axes)
    return figure


def draw_composition(cultures: pd.DataFrame, classes: list[str], metrics: CompositionMetrics, title: str) -> Figure:
    """Draw estimated against true shares of simulated cultures, by counting and by expectation maximisation."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    panels = (
        ("counted", metrics.mean_error_of_counting, "predicted classes counted"),
        ("estimated", metrics.mean_error, "corrected by expectation maximisation"),
    )
    for axes, (column, error, name) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        axes.plot([0, 1], [0, 1], ":", color=GREY)
        for k, label in enumerate(classes):
            rows = cultures[cultures["class"] == k]
            axes.plot(rows["truth"], rows[column], ".", color=COLOURS[k % len(COLOURS)], label=label, alpha=0.7)
        axes.set(xlabel="true share", title=f"{name}\nmean absolute error {error:.3f}", aspect="equal")
        _hide_spines(axes)
    axes.legend(loc="best", frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("estimated share")
    figure.suptitle(title)
    return figure


def draw_tracks(metrics: TrackMetrics, title: str) -> Figure:
    """Draw accuracy, calibration error, and the share of settled calls against the number of images of a cell."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    table = track_metrics.tabulate(metrics)
    panels = {
        "balanced accuracy": [
            ("accuracy_alone", GREY, "that image alone"),
            ("balanced_accuracy", COLOURS[0], "all images so far"),
        ],
        "calibration error": [
            ("undiscounted_error", COLOURS[1], "as if images were independent"),
            ("error_alone", GREY, "that image alone"),
            ("calibration_error", COLOURS[0], "all images so far"),
        ],
        "share of cells whose last call\nis reached and stays": [("settled", COLOURS[0], "")],
    }
    for axes, (name, lines) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for column, colour, label in lines:
            axes.plot(table["frames"], table[column], "o-", color=colour, label=label, markersize=4)
        axes.set(xlabel="images of a cell", ylabel=name, xticks=table["frames"])
        _hide_spines(axes)
    figure.axes[1].set_ylim(bottom=0)
    figure.axes[2].set_ylim(0, 1.02)
    for axes in figure.axes[:2]:
        axes.legend(loc="best", frameon=False, fontsize=8)
    figure.suptitle(title)
    return figure


def _square(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.8, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, aspect="equal")
    _hide_spines(axes)
    return figure, axes


def _hide_spines(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
