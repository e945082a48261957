"""The two documents of an incident for people: what differs, as a page, and what to do, as Markdown."""

import html
import io
from datetime import UTC, datetime
from math import ceil

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from monitoring.accuracy import AccuracyWatch, describe
from monitoring.findings import Report
from monitoring.sources import ServedModel
from monitoring.statistics import compared_columns

_COLUMNS = 5
"""Histograms beside each other."""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Drift: {task}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .2rem 1rem .2rem 0; text-align: left; border-bottom: 1px solid #ccc; }}
.over {{ color: #9b1c1c; font-weight: bold; }} svg {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>The last {cells} cells for {task}, compared with the reference of {model}</h1>
<p>{accuracy}</p>
{told}{histograms}
<h2>Statistics, the largest multiple of its threshold first</h2>
<table><tr><th>Statistic</th><th>Value</th><th>Threshold</th><th></th></tr>{rows}</table>
</body></html>
"""
_ADVICE = """# Cells for {task} differ from the reference of {model}

Above their thresholds: {drifted}.{told}
`report.html` shows them; `window.parquet` has the rows.

1. Image a sample that you know. If the model gets it wrong too, correct lamp, focus, gain or the setting that the files
   tell of; the alert ends by itself.
2. If the cells are new and the images are right, label some of them, name the files so that `dataset.pattern` reads
   them, and

       fatescope data import folder-with-the-labelled-cells
       git add data.dvc params.yaml && git commit -m 'Adopt cells of {date:%Y-%m-%d}'
       fatescope repro

   The gate decides whether the new model is better; a running service loads it by itself.
"""


def advise(model: ServedModel, report: Report) -> str:
    """Return what to do about a report, as Markdown."""
    drifted = ", ".join(
        f"`{finding.statistic}` ({finding.value:.2f}, threshold {finding.threshold:.2f})"
        for finding in report.input_drift
    )
    told = "\n".join(f"- {finding.words}" for finding in report.told)
    return _ADVICE.format(
        task=model.task,
        model=f"{model.name} version {model.version}",
        drifted=drifted or "none at the time of writing",
        told=f" The files of the cells say:\n\n{told}\n" if told else "",
        date=datetime.now(UTC),
    )


def to_html(model: ServedModel, report: Report, reference: pd.DataFrame, window: pd.DataFrame) -> str:
    """Return a page with the histograms of the window over those of the reference, its accuracy, and all statistics."""
    unlabelled = AccuracyWatch.of(reference, model.prior).estimate(window, report)
    rows = "".join(
        f"<tr{' class=over' if finding.drifted else ''}><td>{finding.statistic}</td><td>{finding.value:.3f}</td>"
        f"<td>{finding.threshold:.3f}</td><td>{html.escape(finding.words)}</td></tr>"
        for finding in sorted(report.findings, key=lambda finding: -finding.ratio)
    )
    return _PAGE.format(
        task=html.escape(model.task),
        model=html.escape(f"{model.name} version {model.version}"),
        cells=report.cells,
        accuracy=html.escape(describe(unlabelled)),
        told="".join(f"<p class=over>{html.escape(finding.words)}</p>\n" for finding in report.told),
        histograms=_draw_histograms(report, reference, window),
        rows=rows,
    )


def _draw_histograms(report: Report, reference: pd.DataFrame, window: pd.DataFrame) -> str:
    """Return one SVG with a histogram of every feature; titles of drifted features are red."""
    mpl.use("Agg")
    names = compared_columns(reference.columns)
    rows = ceil(len(names) / _COLUMNS)
    figure = Figure(figsize=(12, 2.5 * rows), layout="constrained")
    for axes in figure.subplots(rows, _COLUMNS).flat[len(names) :]:
        axes.set_axis_off()
    # Without the `ks_`, `psi_` or `outside_` in front; a fact is no feature.
    drifted = {finding.statistic.partition("_")[2] for finding in report.input_drift if not finding.words}
    for axes, name in zip(figure.axes, names, strict=False):
        for table, color, label in ((reference, "0.5", "reference"), (window, "tab:orange", "window")):
            if len(table):
                axes.hist(table[name], bins=30, density=True, alpha=0.6, color=color, label=label)
        axes.set_title(name.replace("_", " "), fontsize=9, color="tab:red" if name in drifted else "black")
        axes.set_yticks([])
    # Named, because Matplotlib warns where it has to choose the place and the machine is slow.
    figure.axes[0].legend(loc="best", fontsize=8)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    # Without the XML declaration and the document type, which have no place inside HTML.
    return buffer.getvalue().partition("?>")[2].partition(">")[2]
