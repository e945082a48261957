"""The comparison of two versions as one HTML page that needs no other file."""

import base64
import html
import io

import pandas as pd
from matplotlib.figure import Figure

from fatescope import plural
from fatescope.data.dataset import CellDataset
from pipelines.registry.comparison import CHANGES, Change, Comparison
from pipelines.reporting.model_card import TEMPLATES
from pipelines.reporting.montage import beside_each_other

SHOWN = 8
"""Cells of each kind of change that are shown."""


def draw_changed(source: CellDataset, changed: pd.DataFrame, kind: Change) -> Figure | None:
    """Draw the most confident cells of one kind of change, or nothing where there are none."""
    chosen = changed[changed["kind"] == kind].head(SHOWN)
    if chosen.empty:
        return None
    figure = Figure(figsize=(1.45 * SHOWN, 1.9), layout="constrained")
    for axes in (row := figure.subplots(1, SHOWN)):
        axes.set_axis_off()
    for axes, (_, cell) in zip(row, chosen.iterrows(), strict=False):
        axes.imshow(beside_each_other(source.pixels[int(cell["row"])]), cmap="gray")
        axes.set_title(f"{cell['label']}\n{cell['a']} → {cell['b']}", fontsize=7)
    return figure


def render(comparison: Comparison, figures: dict[Change, Figure]) -> str:
    """Return the page; `figures` is kind of change → `draw_changed`."""
    a, b = (html.escape(f"version {version}") for version in (comparison.a, comparison.b))
    title = html.escape(f"{comparison.task}: version {comparison.a} and {comparison.b}")
    missing = f" No interval: {html.escape(comparison.no_interval)}." if comparison.no_interval else ""
    metrics = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{metric.a:.3f}</td><td>{metric.b:.3f}</td>"
        f"<td>{metric.describe()}</td></tr>"
        for name, metric in comparison.figures.items()
    )
    groups = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{group.cells:.0f}</td><td>{group.a:.3f}</td><td>{group.b:.3f}</td></tr>"
        for name, group in comparison.by_loss()
    )
    cells = "".join(
        f"<h3>{comparison.changed[kind]} {CHANGES[kind]}</h3>"
        f"<p><img alt='Cells: {CHANGES[kind]}' src='{_data_uri(figure)}'></p>"
        for kind, figure in figures.items()
    )
    body = (
        f"<h1>{title}</h1>"
        f"<p>On {plural.count(comparison.cells, 'test cell')} that neither version has seen. Intervals are at "
        f"95 %, from how far {comparison.resampled} differ.{missing}</p>"
        f"<table><tr><th>metric</th><th>{a}</th><th>{b}</th><th>difference</th></tr>{metrics}</table>"
        f"<h2>Accuracy by acquisition group</h2>"
        f"<table><tr><th>group</th><th>cells</th><th>{a}</th><th>{b}</th></tr>{groups}</table>"
        f"<h2>Cells whose predicted class changed</h2>{cells or '<p>None.</p>'}"
    )
    return (TEMPLATES / "page.html").read_text(encoding="utf-8").replace("{{title}}", title).replace("{{body}}", body)


def _data_uri(figure: Figure) -> str:
    raw = io.BytesIO()
    figure.savefig(raw, dpi=120)
    return f"data:image/png;base64,{base64.b64encode(raw.getvalue()).decode()}"
