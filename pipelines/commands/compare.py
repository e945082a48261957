"""What changed between two versions of a task: on the same test cells, which neither has seen.

`A-B.json`: `task`, `a`, `b`, `cells`, `figures` (figure → `a`, `b`, `difference`, `low`, `high`), `resampled` (what was
drawn for them: `groups`, or `cells` where some class has too few, and then they are rough), `groups` (group → `cells`,
`a`, `b`), and `changed` (`mended`, `broken`, `otherwise`: cells whose call changed). `A-B.html` shows the same with
pictures of the cells whose call changed, and `changed.csv` lists them all.
"""

import base64
import html
import io
import json
import logging
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import typer
from matplotlib.figure import Figure

from fatescope.command import CellsFolder, OutFolder, ParamsFile, SplitsFile, TaskName, run
from fatescope.config import Params, load
from fatescope.data import dataset, splits
from fatescope.data.dataset import CellDataset
from pipelines.evaluation import bootstrap, metrics
from pipelines.registry import paired, versions
from pipelines.registry.paired import Pair
from pipelines.reporting import model_card

log = logging.getLogger(__name__)

SHOWN = 8
"""Cells of each kind of change that are shown."""
KINDS = {
    "mended": "wrong before, right now",
    "broken": "right before, wrong now",
    "otherwise": "wrong both times, in another way",
}


def compare(pair: Pair, source: CellDataset, params: Params) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the figures of the module, and a table of the cells whose call changed."""
    classes = np.array(pair.models[1].spec.classes)
    known = source.manifest.iloc[pair.rows]
    groups = known["group"].to_numpy(str)
    before, after = (each.probabilities for each in (pair.before, pair.after))
    units = bootstrap.units_of(groups, pair.targets.astype(str))
    weights = bootstrap.resample(units.names, pair.targets.astype(str), params.evaluate.repeats, params.evaluate.seed)
    counts = [metrics.confusions(pair.targets, each.argmax(1), weights, len(classes)) for each in (before, after)]
    figures = {}
    for name, figure in metrics.OF_CONFUSION.items():
        a, b = (figure(each) for each in counts)
        found = bootstrap.interval(b - a)
        figures[name] = {"a": a[0], "b": b[0], "difference": found.value, "low": found.low, "high": found.high}
    table = pd.DataFrame(
        {
            "cell_id": known["cell_id"].to_numpy(),
            "row": pair.rows,
            "group": groups,
            "label": classes[pair.targets],
            "a": classes[before.argmax(1)],
            "b": classes[after.argmax(1)],
            "sure_a": before.max(1),
            "sure_b": after.max(1),
        }
    )
    table["right_a"], table["right_b"] = table["a"] == table["label"], table["b"] == table["label"]
    by_group = table.groupby("group").agg(cells=("a", "size"), a=("right_a", "mean"), b=("right_b", "mean"))
    changed = table[table["a"] != table["b"]].copy()
    changed["kind"] = np.where(changed["right_b"], "mended", np.where(changed["right_a"], "broken", "otherwise"))
    report = {
        "cells": len(table),
        "resampled": units.kind,
        "figures": figures,
        "groups": {str(name): {k: float(v) for k, v in row.items()} for name, row in by_group.iterrows()},
        "changed": {kind: int((changed["kind"] == kind).sum()) for kind in KINDS},
    }
    return report, changed.sort_values("sure_b", ascending=False)


def show(report: dict[str, Any]) -> str:
    """Return the report as plain text."""
    a, b = report["a"], report["b"]
    lines = [f"{report['task']}: version {a} → {b}, {report['cells']} cells that neither has seen"]
    lines += [
        f"  {name:<18} {each['a']:.3f} → {each['b']:.3f}   "
        f"{each['difference']:+.3f} ({each['low']:+.3f} to {each['high']:+.3f})"
        for name, each in report["figures"].items()
    ]
    worst = sorted(report["groups"].items(), key=lambda item: item[1]["b"] - item[1]["a"])
    lines += ["  groups, from the one that loses most:"]
    lines += [
        f"    {name:<16} {each['a']:.3f} → {each['b']:.3f}   {each['cells']:.0f} cells" for name, each in worst[:10]
    ]
    changed = ", ".join(f"{count} {kind}" for kind, count in report["changed"].items())
    return "\n".join([*lines, f"  calls that changed: {changed}"])


def draw(source: CellDataset, changed: pd.DataFrame, kind: str) -> Figure | None:
    """Draw the surest cells of one kind of change, or nothing where there are none."""
    chosen = changed[changed["kind"] == kind].head(SHOWN)
    if chosen.empty:
        return None
    figure = Figure(figsize=(1.45 * SHOWN, 1.9), layout="constrained")
    for axes in (row := figure.subplots(1, SHOWN)):
        axes.set_axis_off()
    for axes, (_, each) in zip(row, chosen.iterrows(), strict=False):
        axes.imshow(source.pixels[int(each["row"])], cmap="gray")
        axes.set_title(f"{each['label']}\n{each['a']} → {each['b']}", fontsize=7)
    return figure


def to_html(report: dict[str, Any], pictures: dict[str, Figure]) -> str:
    """Return the report as one page that needs nothing else."""
    name = f"{report['task']}: version {report['a']} and {report['b']}"
    rows = "".join(
        f"<tr><td>{html.escape(k)}</td><td>{v['a']:.3f}</td><td>{v['b']:.3f}</td>"
        f"<td>{v['difference']:+.3f} ({v['low']:+.3f} to {v['high']:+.3f})</td></tr>"
        for k, v in report["figures"].items()
    )
    groups = "".join(
        f"<tr><td>{html.escape(k)}</td><td>{v['cells']:.0f}</td><td>{v['a']:.3f}</td><td>{v['b']:.3f}</td></tr>"
        for k, v in sorted(report["groups"].items(), key=lambda item: item[1]["b"] - item[1]["a"])
    )
    shown = "".join(
        f"<h3>{report['changed'][kind]} {KINDS[kind]}</h3><p><img alt='{KINDS[kind]}' src='{_inside(picture)}'></p>"
        for kind, picture in pictures.items()
    )
    a, b = f"version {report['a']}", f"version {report['b']}"
    rough = ", which is rough" if report["resampled"] == "cells" else ""
    body = (
        f"<h1>{html.escape(name)}</h1><p>On {report['cells']:,} test cells that neither has seen; 95 % intervals by "
        f"drawing {report['resampled']}{rough}.</p>"
        f"<table><tr><th></th><th>{a}</th><th>{b}</th><th>difference</th></tr>{rows}</table>"
        f"<h2>Acquisition groups</h2><table><tr><th>group</th><th>cells</th><th>{a}</th><th>{b}</th></tr>"
        f"{groups}</table><h2>Cells whose call changed</h2>{shown or '<p>None.</p>'}"
    )
    page = (model_card.TEMPLATES / "page.html").read_text()
    return page.replace("{{title}}", html.escape(name)).replace("{{body}}", body)


def _inside(figure: Figure) -> str:
    raw = io.BytesIO()
    figure.savefig(raw, dpi=120)
    return f"data:image/png;base64,{base64.b64encode(raw.getvalue()).decode()}"


def main(
    params: ParamsFile,
    task: TaskName,
    a: Annotated[str, typer.Option("--a", help="Version or alias to compare from.")],
    b: Annotated[str, typer.Option("--b", help="Version or alias to compare with.")],
    source: CellsFolder,
    parts: SplitsFile,
    target: OutFolder,
) -> None:
    """Compare two registered versions of a task on the same test cells."""
    mpl.use("Agg")
    settings, known, divided = load(params), dataset.load(source), splits.load(parts)
    with versions.fetched(task, a) as first, versions.fetched(task, b) as second:
        pair = paired.pair(first, second, known, divided, settings.train.threads)
    found, changed = compare(pair, known, settings)
    report = {"task": task, "a": a, "b": b, **found}
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{a}-{b}.json").write_text(json.dumps(report, indent=2) + "\n")
    changed.drop(columns="row").to_csv(target / f"{a}-{b}-changed.csv", index=False)
    pictures = {kind: picture for kind in KINDS if (picture := draw(known, changed, kind))}
    (target / f"{a}-{b}.html").write_text(to_html(report, pictures))
    log.info("%s\nwritten to %s", show(report), target / f"{a}-{b}.html")


if __name__ == "__main__":
    run(main)
