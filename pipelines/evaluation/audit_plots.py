"""One plot for each question of the audit."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fatescope import plural
from pipelines.evaluation import drawing
from pipelines.evaluation.audit_report import STAGES, AuditReport, BalancedAccuracy

RED, BLUE = "#b5442e", "#2e6fb5"
BAR = 0.38
"""Width of one of two bars side by side."""


def draw(report: AuditReport, folder: Path) -> None:
    """Write the plots of `report` into `folder`."""
    drawing.prepare()
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "acquisition": draw_acquisition(report),
        "baseline": draw_baseline(report),
        "groups": draw_groups(report),
        "confounding": draw_confounding(report),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=130)


def draw_acquisition(report: AuditReport) -> Figure:
    """Draw question 1: the better model on each description, before and after normalisation."""
    schemes, names = sorted(report.baseline), list(report.acquisition["raw"])
    figure = Figure(figsize=(5 * len(schemes), 4.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(schemes), sharey=True))
    for axes, scheme in zip(panels, schemes, strict=True):
        for shift, stage, colour in zip((-0.2, 0.2), STAGES, (RED, BLUE), strict=True):
            best = [(i, report.best(stage, name, scheme)) for i, name in enumerate(names)]
            reached = {i + shift: accuracy for i, accuracy in best if accuracy is not None}
            _draw_bars(axes, reached, colour, f"{stage} pixels")
        axes.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names])
        axes.set_title(f"{scheme} folds")
        _finish(axes)
    figure.suptitle("How well does acquisition alone predict the class?")
    return figure


def draw_baseline(report: AuditReport) -> Figure:
    """Draw question 2: simple features of the cell beside the best description of the acquisition."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes, schemes = figure.subplots(), list(report.baseline)
    alone = {}
    for i, scheme in enumerate(schemes):
        best = [report.best("raw", name, scheme) for name in report.acquisition["raw"]]
        alone[i - 0.2] = max((one for one in best if one is not None), key=lambda accuracy: accuracy.value)
    _draw_bars(axes, alone, RED, "acquisition alone, raw pixels")
    from_cell = {i + 0.2: report.baseline[scheme] for i, scheme in enumerate(schemes)}
    _draw_bars(axes, from_cell, BLUE, "simple features of the cell")
    axes.set_xticks(range(len(schemes)), [f"{scheme} folds" for scheme in schemes])
    _finish(axes)
    axes.set_title("What must a network beat?")
    return figure


def draw_groups(report: AuditReport) -> Figure:
    """Draw question 3: whether the groups of one class can be told from each other."""
    figure = Figure(figsize=(max(5, 1.6 * len(report.groups) + 2), 4), layout="constrained")
    axes, names = figure.subplots(), list(report.groups)
    if names:
        by_border = {i - 0.2: report.groups[name].border for i, name in enumerate(names)}
        by_cell = {i + 0.2: report.groups[name].cell for i, name in enumerate(names)}
        _draw_bars(axes, by_border, RED, "from the border of the crop")
        _draw_bars(axes, by_cell, BLUE, "from simple features of the cell")
        groups = [plural.count(report.groups[name].groups, "group") for name in names]
        axes.set_xticks(range(len(names)), [f"{name}\n{number}" for name, number in zip(names, groups, strict=True)])
        _finish(axes)
    else:
        axes.text(0.5, 0.5, "no class has two groups large enough", ha="center")
        axes.set_axis_off()
    axes.set_title("Can the acquisition group be told within one class?")
    return figure


def draw_confounding(report: AuditReport) -> Figure:
    """Draw question 4: cells by class and group."""
    cells = report.confounding.cells
    names = sorted({group for by_group in cells.values() for group in by_group})
    table = np.array([[by_group.get(group, 0) for group in names] for by_group in cells.values()])
    figure = Figure(figsize=(min(14, 3 + 0.3 * len(names)), 1.8 + 0.45 * len(cells)), layout="constrained")
    axes = figure.subplots()
    shown = np.where(table, table, np.nan)
    image = axes.imshow(shown, aspect="auto", cmap="viridis", interpolation="nearest", vmin=0)
    figure.colorbar(image, ax=axes, label="cells")
    axes.set_yticks(range(len(cells)), list(cells))
    if len(names) <= 40:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    else:
        axes.set_xticks([])
    axes.set_xlabel(f"acquisition group ({len(names)})")
    association = ", ".join(f"{fact} {value:.2f}" for fact, value in report.confounding.cramers_v.items())
    axes.set_title(f"Which classes share groups?\nCramér's V with the class: {association}", fontsize=10)
    return figure


def _draw_bars(axes: Axes, accuracies: dict[float, BalancedAccuracy], colour: str, label: str) -> None:
    """Draw bars with their intervals and a line at chance; `accuracies` is place → value."""
    places = list(accuracies)
    values = [accuracy.value for accuracy in accuracies.values()]
    below = [accuracy.value - accuracy.low for accuracy in accuracies.values()]
    above = [accuracy.high - accuracy.value for accuracy in accuracies.values()]
    axes.bar(places, values, BAR, yerr=[below, above], capsize=3, color=colour, label=label)
    for place, accuracy in accuracies.items():
        axes.plot([place - BAR / 2, place + BAR / 2], [accuracy.chance] * 2, color="black", lw=1.5)


def _finish(axes: Axes) -> None:
    axes.set(ylim=(0, 1.02), ylabel="balanced accuracy")
    axes.plot([], [], color="black", lw=1.5, label="chance")
    axes.legend(loc="upper right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
