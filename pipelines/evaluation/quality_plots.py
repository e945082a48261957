"""The two plots of quality that cytometrists know, with the gates drawn."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from fatescope.data.quality_gate import QualityGate
from pipelines.evaluation import drawing

COLOURS = {
    "focus": "#b5442e",
    "doublet": "#d98a00",
    "debris": "#7a4fa3",
    "clipped": "#2f8f6b",
    "saturated": "#c2428f",
}
INSIDE, GATE = "#2e6fb5", "#333333"
MAX_CELLS = 20_000
"""Cells that are drawn, evenly spaced; more hide each other."""
FOCUS = {"in focus": INSIDE, "out of focus": COLOURS["focus"], "outside another gate": "#b0b0b0"}
"""Kinds of cells in the histogram, and their colours."""
_BINS = 60
Floats = npt.NDArray[np.floating]


class QualityDrawing:
    """What the plots show, taken from the table of quality a part at a time."""

    def __init__(self, gate: QualityGate, objects: int, focus: tuple[float, float]) -> None:
        """Begin for cells of which `objects` have an area, and whose gradient RMS is within the ends of `focus`."""
        self._gate = gate
        self._wanted = np.unique(np.linspace(0, max(objects - 1, 0), MAX_CELLS).astype(int))
        self._drawn, self._objects = list[pd.DataFrame](), 0
        self._edges = np.histogram_bin_edges(np.append(np.array(focus, float), gate.min_gradient_rms), _BINS)
        self._cells = {kind: np.zeros(_BINS) for kind in FOCUS}

    def add(self, rows: pd.DataFrame) -> None:
        """Add rows of `CellQuality.table`."""
        objects = rows[rows["area"] > 0]
        first, last = np.searchsorted(self._wanted, [self._objects, self._objects + len(objects)])
        self._drawn.append(objects.iloc[self._wanted[first:last] - self._objects])
        self._objects += len(objects)
        values = rows["gradient_rms"].to_numpy()
        others = rows["outside"] & ~rows["focus"]
        for kind, chosen in zip(FOCUS, (~rows["outside"], rows["focus"], others), strict=True):
            self._cells[kind] += np.histogram(values[chosen.to_numpy()], self._edges)[0]

    def write(self, folder: Path) -> None:
        """Write `area_aspect_ratio.png` and `gradient_rms.png` into `folder`."""
        drawing.prepare()
        folder.mkdir(parents=True, exist_ok=True)
        figures = {
            "area_aspect_ratio": draw_area(pd.concat(self._drawn), self._gate),
            "gradient_rms": draw_focus(self._cells, self._edges, self._gate.min_gradient_rms),
        }
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=130)


def draw_area(table: pd.DataFrame, gate: QualityGate) -> Figure:
    """Draw area against aspect ratio: singlets are between the gates of debris, on the left, and of doublets."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    # Plain numbers: powers would be formulas, which are not drawn (see `drawing`).
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _scatter(axes, table[~table["outside"]], INSIDE, "inside all gates")
    for reason, colour in COLOURS.items():
        _scatter(axes, table[table[reason]], colour, reason)
    area = np.geomspace(max(table["area"].min(), 1), table["area"].max(), 100) if len(table) else np.array([1.0, 2.0])
    if gate.doublet_aspect_ratio:
        limit = (gate.max_doublet - gate.doublet_area * np.log(area)) / gate.doublet_aspect_ratio
        axes.plot(area, limit, color=GATE, lw=1.4, label="gates")
    axes.axvline(gate.min_area, color=GATE, lw=1.4)
    axes.set(xlabel="area, px", ylabel="aspect ratio", ylim=(0, 1.02))
    axes.set_title("Singlets, doublets and debris")
    _finish(axes)
    return figure


def draw_focus(cells: Mapping[str, Floats], edges: Floats, limit: float) -> Figure:
    """Draw the histogram of gradient RMS, with (B,) `cells` of each kind between (B + 1,) `edges`.

    Cells left of the gate, `limit`, are out of focus.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.hist(
        [(edges[:-1] + edges[1:]) / 2] * len(cells),
        edges.tolist(),
        weights=list(cells.values()),
        stacked=True,
        color=list(FOCUS.values()),
        label=list(cells),
    )
    axes.axvline(limit, color=GATE, lw=1.4, label="gate")
    axes.set(xlabel="gradient RMS over contrast, 1/px", ylabel="cells")
    axes.set_title("Focus")
    _finish(axes)
    return figure


def _scatter(axes: Axes, rows: pd.DataFrame, colour: str, label: str) -> None:
    axes.scatter(
        rows["area"], rows["aspect_ratio"], s=5, lw=0, alpha=0.5, color=colour, label=f"{label} ({len(rows):,})"
    )


def _finish(axes: Axes) -> None:
    legend = axes.legend(loc="best", fontsize=8, markerscale=2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    axes.spines[["top", "right"]].set_visible(False)
