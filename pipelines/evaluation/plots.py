"""Pictures of how good a model is."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

COLOURS = ("#2166ac", "#b2182b", "#1b7837", "#762a83", "#e08214", "#4d4d4d", "#01665e", "#8c510a")
GREY = "#8a8a8a"


def draw_confusion(counts: list[list[int]], classes: list[str], title: str) -> Figure:
    """Draw counts, shaded by the share of the true class."""
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
    axes.set(xlabel="called", ylabel="labelled", title=title)
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


def draw_reliability(before: pd.DataFrame, after: pd.DataFrame, errors: dict[str, float], title: str) -> Figure:
    """Draw how often the model is right against how sure it is, before and after calibration."""
    figure, axes = _square(title, "confidence", "share called right")
    axes.plot([0, 1], [0, 1], ":", color=GREY)
    for label, diagram, colour in (("before", before, COLOURS[1]), ("after", after, COLOURS[0])):
        text = f"{label}, calibration error {errors[label]:.3f}"
        axes.plot(diagram["confidence"], diagram["accuracy"], "o-", color=colour, label=text, markersize=4)
    lowest = min(before[["confidence", "accuracy"]].min().min(), after[["confidence", "accuracy"]].min().min())
    axes.set(xlim=(max(0, lowest - 0.05), 1.01), ylim=(max(0, lowest - 0.05), 1.01))
    axes.legend(loc="upper left", frameon=False)
    return figure


def draw_risk_coverage(curve: pd.DataFrame, title: str) -> Figure:
    """Draw the error among the cells that are answered against the share that is."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve["coverage"], curve["risk"], color=COLOURS[0])
    axes.axhline(curve["risk"].iloc[-1], linestyle=":", color=GREY)
    axes.annotate("all answered", (0.02, curve["risk"].iloc[-1]), color=GREY, va="bottom", fontsize=8)
    axes.set(xlabel="share of cells answered, surest first", ylabel="share called wrong", title=title, xlim=(0, 1))
    axes.set_ylim(bottom=0)
    _plain(axes)
    return figure


def draw_groups(figures: dict[str, dict[str, float]], labels: dict[str, str], title: str) -> Figure:
    """Draw the accuracy in each acquisition group, worst below, coloured by class; at most the 40 worst."""
    ordered = sorted(figures, key=lambda name: -figures[name]["accuracy"])[-40:]
    figure = Figure(figsize=(6, 1.2 + 0.24 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    kinds = sorted(set(labels.values()))
    for place, name in enumerate(reversed(ordered)):
        colour = COLOURS[kinds.index(labels[name]) % len(COLOURS)]
        value, cells = figures[name]["accuracy"], figures[name]["cells"]
        spread = 1.96 * np.sqrt(max(value * (1 - value), 0.25 / cells) / cells)
        axes.plot([max(0, value - spread), min(1, value + spread)], [place, place], color=colour, linewidth=1)
        axes.plot(value, place, "o", color=colour, markersize=5)
        axes.text(1.02, place, f"{cells}", va="center", fontsize=8, color=GREY)
    axes.set_yticks(range(len(ordered)), list(reversed(ordered)), fontsize=8)
    for kind in kinds:
        axes.plot([], [], "o", color=COLOURS[kinds.index(kind) % len(COLOURS)], label=kind)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    axes.set(xlim=(0, 1), xlabel="share called right; number of cells at the right", title=title)
    _plain(axes)
    return figure


def draw_composition(table: pd.DataFrame, classes: list[str], figures: dict[str, float], title: str) -> Figure:
    """Draw estimated against true shares of simulated cultures, by counting and corrected."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    for axes, column, error, name in zip(
        figure.subplots(1, 2, sharey=True),
        ("counted", "estimated"),
        ("mean_error_of_counting", "mean_error"),
        ("calls counted", "corrected (expectation maximisation)"),
        strict=True,
    ):
        axes.plot([0, 1], [0, 1], ":", color=GREY)
        for k, label in enumerate(classes):
            rows = table[table["class"] == k]
            axes.plot(rows["truth"], rows[column], ".", color=COLOURS[k % len(COLOURS)], label=label, alpha=0.7)
        axes.set(xlabel="true share", title=f"{name}\nmean error {figures[error]:.3f}", aspect="equal")
        _plain(axes)
    axes.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("estimated share")
    figure.suptitle(title)
    return figure


def _square(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4.8, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, aspect="equal")
    _plain(axes)
    return figure, axes


def _plain(axes: Any) -> None:  # noqa: ANN401  matplotlib's axes
    axes.spines[["top", "right"]].set_visible(False)
