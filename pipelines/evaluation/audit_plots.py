"""One picture for each question of the audit."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"raw": "#b5442e", "normalised": "#2e6fb5", "border": "#b5442e", "cell": "#2e6fb5"}


def draw(report: dict[str, Any], folder: Path) -> None:
    """Write the pictures of `report` into `folder`."""
    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "acquisition": acquisition(report),
        "baseline": baseline(report),
        "groups": groups(report),
        "confounding": confounding(report),
    }
    for name, figure in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=130)


def acquisition(report: dict[str, Any]) -> Figure:
    """Draw question 1: the better of both models for each description, before and after normalisation."""
    panels = sorted({split for each in report["acquisition"]["raw"].values() for split in each})
    figure = Figure(figsize=(5 * len(panels), 4.2), layout="constrained")
    for axes, split in zip(np.atleast_1d(figure.subplots(1, len(panels), sharey=True)), panels, strict=True):
        for shift, (stage, described) in zip((-0.2, 0.2), report["acquisition"].items(), strict=True):
            best = {k: max(v[split].values(), key=lambda one: one["value"]) for k, v in described.items() if split in v}
            places = [list(report["acquisition"]["raw"]).index(name) + shift for name in best]
            _bars(axes, places, list(best.values()), stage, 0.38)
        axes.set_xticks(range(4), list(report["acquisition"]["raw"]))
        axes.set_title(f"{split} folds")
        _finish(axes, "balanced accuracy")
    figure.suptitle("How well does acquisition alone predict the class?")
    return figure


def baseline(report: dict[str, Any]) -> Figure:
    """Draw question 2: simple figures of the cell beside the best that its surroundings reach."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    names = list(report["baseline"])
    surroundings = [
        max(
            (one for each in report["acquisition"]["raw"].values() for one in each[split].values()),
            key=lambda one: one["value"],
        )
        for split in names
    ]
    _bars(axes, [i - 0.2 for i in range(len(names))], surroundings, "border", 0.38, "acquisition alone, raw")
    _bars(
        axes,
        [i + 0.2 for i in range(len(names))],
        list(report["baseline"].values()),
        "cell",
        0.38,
        "simple cell figures",
    )
    axes.set_xticks(range(len(names)), [f"{name} folds" for name in names])
    _finish(axes, "balanced accuracy")
    axes.set_title("What must a network beat?")
    return figure


def groups(report: dict[str, Any]) -> Figure:
    """Draw question 3: whether the group can be told within one class."""
    figure = Figure(figsize=(max(5, 1.6 * len(report["groups"]) + 2), 4), layout="constrained")
    axes, names = figure.subplots(), list(report["groups"])
    if names:
        for shift, what in ((-0.2, "border"), (0.2, "cell")):
            _bars(axes, [i + shift for i in range(len(names))], [report["groups"][n][what] for n in names], what, 0.38)
        axes.set_xticks(range(len(names)), [f"{n}\n{report['groups'][n]['groups']} groups" for n in names])
        _finish(axes, "balanced accuracy")
    else:
        axes.text(0.5, 0.5, "no class has two groups", ha="center")
        axes.set_axis_off()
    axes.set_title("Can the group be told within one class?")
    return figure


def confounding(report: dict[str, Any]) -> Figure:
    """Draw question 4: cells by class and group."""
    counted = report["confounding"]["cells"]
    names = sorted({group for each in counted.values() for group in each})
    table = np.array([[each.get(group, 0) for group in names] for each in counted.values()])
    figure = Figure(figsize=(min(14, 3 + 0.3 * len(names)), 1.8 + 0.45 * len(counted)), layout="constrained")
    axes = figure.subplots()
    shown = np.where(table, table, np.nan)
    image = axes.imshow(shown, aspect="auto", cmap="viridis", interpolation="nearest", vmin=0)
    figure.colorbar(image, ax=axes, label="cells")
    axes.set_yticks(range(len(counted)), list(counted))
    if len(names) <= 40:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    else:
        axes.set_xticks([])
    axes.set_xlabel(f"acquisition group ({len(names)})")
    measured = ", ".join(f"{name} {value:.2f}" for name, value in report["confounding"]["cramers_v"].items())
    axes.set_title(f"Which classes share groups?\nCramér's V with the class: {measured}", fontsize=10)
    return figure


def _bars(
    axes: Axes, places: list[float], found: list[dict[str, float]], kind: str, width: float, label: str | None = None
) -> None:
    values = [each["value"] for each in found]
    # A bootstrap interval need not hold its own estimate.
    spans = [[max(0, e["value"] - e["low"]) for e in found], [max(0, e["high"] - e["value"]) for e in found]]
    axes.bar(places, values, width, yerr=spans, capsize=3, color=COLOURS[kind], label=label or kind)
    for place, each in zip(places, found, strict=True):
        axes.plot([place - width / 2, place + width / 2], [each["chance"]] * 2, color="black", lw=1.5)


def _finish(axes: Axes, label: str) -> None:
    axes.set(ylim=(0, 1.02), ylabel=label)
    axes.plot([], [], color="black", lw=1.5, label="chance")
    axes.legend(loc="upper right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
