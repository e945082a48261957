"""The two documents of an incident for people: what differs, as a page, and what to do, as Markdown."""

import html
import io
from datetime import UTC, datetime

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from monitoring.drift import Report
from monitoring.sources import ServedModel
from monitoring.statistics import FEATURES

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Drift: {task}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .2rem 1rem .2rem 0; text-align: left; border-bottom: 1px solid #ccc; }}
.over {{ color: #9b1c1c; font-weight: bold; }} svg {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>The last {cells} cells for {task}, compared with the reference of {model}</h1>
{histograms}
<h2>Statistics, the largest multiple of its threshold first</h2>
<table><tr><th>Statistic</th><th>Value</th><th>Threshold</th></tr>{rows}</table>
</body></html>
"""
_ADVICE = """# Cells for {task} differ from the reference of {model}

Above their thresholds: {drifted}.
`report.html` shows them; `window.parquet` has the rows.

1. Image a sample that you know. If the model gets it wrong too, correct lamp, focus or gain; the alert ends by itself.
2. If the cells are new and the images are right, label some of them, name the files so that `dataset.pattern` reads
   them, and

       make adopt SRC=folder-with-the-labelled-cells
       git add data.dvc params.yaml && git commit -m 'Adopt cells of {date:%Y-%m-%d}'
       dvc repro

   The gate decides whether the new model is better; a running service loads it by itself.
"""


def advise(model: ServedModel, report: Report) -> str:
    """Return what to do about a report, as Markdown."""
    drifted = ", ".join(
        f"`{finding.statistic}` ({finding.value:.2f}, threshold {finding.threshold:.2f})"
        for finding in report.input_drift
    )
    return _ADVICE.format(
        task=model.task,
        model=f"{model.name} version {model.version}",
        drifted=drifted or "none at the time of writing",
        date=datetime.now(UTC),
    )


def to_html(model: ServedModel, report: Report, reference: pd.DataFrame, window: pd.DataFrame) -> str:
    """Return a page with the histograms of the window over those of the reference, and all statistics."""
    rows = "".join(
        f"<tr{' class=over' if finding.drifted else ''}><td>{finding.statistic}</td><td>{finding.value:.3f}</td>"
        f"<td>{finding.threshold:.3f}</td></tr>"
        for finding in sorted(report.findings, key=lambda finding: -finding.ratio)
    )
    return _PAGE.format(
        task=html.escape(model.task),
        model=html.escape(f"{model.name} version {model.version}"),
        cells=report.cells,
        histograms=_draw_histograms(report, reference, window),
        rows=rows,
    )


def _draw_histograms(report: Report, reference: pd.DataFrame, window: pd.DataFrame) -> str:
    """Return one SVG with a histogram of every feature; titles of drifted features are red."""
    mpl.use("Agg")
    figure = Figure(figsize=(12, 5), layout="constrained")
    for axes, name in zip(figure.subplots(2, 5).flat, FEATURES, strict=True):
        for table, color, label in ((reference, "0.5", "reference"), (window, "tab:orange", "window")):
            if len(table):
                axes.hist(table[name], bins=30, density=True, alpha=0.6, color=color, label=label)
        drifted = any(finding.statistic.endswith(f"_{name}") for finding in report.input_drift)
        axes.set_title(name.replace("_", " "), fontsize=9, color="tab:red" if drifted else "black")
        axes.set_yticks([])
    figure.axes[0].legend(fontsize=8)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    # Without the XML declaration and the document type, which have no place inside HTML.
    return buffer.getvalue().partition("?>")[2].partition(">")[2]
