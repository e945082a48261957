"""The model card: what a version is, what it was made from, where it fails. Generated from what the line reported.

Sections follow Mitchell et al. 2019 (Model Cards for Model Reporting); what DOME asks for (Walsh et al. 2021)
stand in one table. `card.md` begins with the metadata that the Hugging Face Hub reads; `card.html` is the same text
with its pictures inside. A fact that is not known is said to be missing.
"""

import base64
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from fatescope.data.dataset import CellDataset
from fatescope.inference import bundle
from fatescope.inference.bundle import Spec
from fatescope.model_registry import model_name

MISSING = "missing"
TEMPLATES = Path(__file__).with_name("templates")
PLOTS = {
    "confusion": "Calls by label, counts and share of each label",
    "groups": "Share called right in each acquisition group, the worst below, with 95 % intervals of the binomial",
    "reliability": "How often the model is right against how sure it is, before and after calibration",
    "risk_coverage": "Error among the cells that are answered, surest first",
    "composition": "Estimated against true shares of simulated cultures",
    "roc": "Receiver operating characteristic of each class against the rest",
}
MD, HTML, EXAMPLES = "card.md", "card.html", "examples.png"


@dataclass(frozen=True)
class Sources:
    """What a card is made from."""

    spec: Spec
    metrics: dict[str, Any]
    """Content of `metrics.json`."""
    audit: dict[str, Any]
    """Content of `audit.json`."""
    cells: pd.DataFrame
    """The manifest, cells of the task's classes."""
    day: str | None
    """The named group of the path that counts days, where there is one."""
    pictures: Path
    """Folder of plots, and of the examples."""
    gate: dict[str, Any] | None = None
    """Content of `gate.json`, once the version is registered."""
    history: tuple[dict[str, Any], ...] = ()
    """Earlier versions: `version`, `created`, `balanced_accuracy`, `verdict`, `note`."""


def sources(folder: Path, known: CellDataset, metrics: Path, audit: Path, pictures: Path) -> Sources:
    """Gather what a card of the bundle in `folder` is made from."""
    spec = bundle.read_spec(folder)
    cells = known.manifest[known.manifest["label"].isin(spec.classes)]
    return Sources(
        spec=spec,
        metrics=json.loads(metrics.read_text()),
        audit=json.loads(audit.read_text()),
        cells=cells,
        day="day" if "day" in cells.columns else None,
        pictures=pictures,
    )


def write(sources: Sources, target: Path) -> None:
    """Write `card.md` and `card.html`, and the pictures that the first refers to, into the folder `target`."""
    target.mkdir(parents=True, exist_ok=True)
    text = render(sources)
    (target / MD).write_text(metadata(sources) + text)
    (target / HTML).write_text(to_html(text, sources.pictures, model_name(sources.spec.task)))
    (target / "card").mkdir(exist_ok=True)
    for name in re.findall(r"\]\(card/([\w.]+)\)", text):
        if sources.pictures != target / "card":
            (target / "card" / name).write_bytes((sources.pictures / name).read_bytes())


def render(sources: Sources) -> str:
    """Return the card as Markdown, without its metadata."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  this is Markdown; to_html lets no HTML through
    )  # fmt: skip
    environment.filters |= {"figure": _figure, "share": _share, "count": _count}
    split = sources.spec.split
    chosen = sources.metrics["splits"][split]
    return environment.get_template("card.md").render(
        spec=sources.spec,
        metrics=sources.metrics,
        chosen=chosen,
        audit=sources.audit,
        settings=sources.spec.params,
        cells=tabulate(sources.cells, sources.day, sources.spec.confounded),
        plots={name: text for name, text in PLOTS.items() if (sources.pictures / f"{name}_{split}.png").exists()},
        examples=(sources.pictures / EXAMPLES).exists(),
        gate=sources.gate,
        history=sources.history,
        missing=MISSING,
    )


def metadata(sources: Sources) -> str:
    """Return the YAML block that the Hugging Face Hub reads, with the results as its model index."""
    spec, metrics = sources.spec, sources.metrics
    results = [
        {
            "task": {"type": "image-classification", "name": f"{spec.task}: {', '.join(spec.classes)}"},
            "dataset": {
                "type": "fatescope-cells",
                "name": "simulated cells" if spec.simulated else "cells of the laboratory",
                "split": split,
                "revision": spec.data_hash,
            },
            "metrics": [
                {"type": name, "name": f"{name}, {split} split", "value": round(float(figures[name]), 4)}
                for name in ("balanced_accuracy", "accuracy", "macro_f1", "mcc")
            ],
        }
        for split, figures in metrics["splits"].items()
    ]
    content = {
        "license": "apache-2.0",
        "library_name": "fatescope",
        "pipeline_tag": "image-classification",
        "tags": ["biology", "imaging-flow-cytometry", "stem-cells", "onnx", *(["simulated"] if spec.simulated else [])],
        "metrics": ["accuracy", "f1", "matthews_correlation"],
        "model-index": [{"name": model_name(spec.task), "results": results}],
    }
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(content, text)
    return f"---\n{text.getvalue()}---\n"


def tabulate(manifest: pd.DataFrame, day: str | None, confounded: dict[str, str]) -> list[dict[str, Any]]:
    """Return one row an acquisition group: `medium`, `day`, `group`, `cells`, and `confounded` where its class is."""
    keys = ["label", *([day] if day else []), "group"]
    counts = manifest.groupby(keys, observed=True).size()
    rows = []
    for key, count in counts.items():
        named = dict(zip(keys, key if isinstance(key, tuple) else (key,), strict=True))
        medium = str(named["label"])
        rows.append(
            {
                "medium": medium,
                "day": str(named[day]) if day else MISSING,
                "group": str(named["group"]),
                "cells": int(count),
                "confounded": confounded.get(medium),
            }
        )
    return rows


def to_html(text: str, pictures: Path, title: str) -> str:
    """Return the card as one HTML page that needs nothing else: pictures and style are inside."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)

    def inside(match: re.Match[str]) -> str:
        raw = (pictures / match[1]).read_bytes()
        return f'src="data:image/png;base64,{base64.b64encode(raw).decode()}"'

    body = re.sub(r'src="card/([\w.]+)"', inside, body)
    # A wide table scrolls by itself, not the page.
    body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
    page = (TEMPLATES / "page.html").read_text()
    return page.replace("{{title}}", title).replace("{{body}}", body)


def _figure(value: object) -> str:
    return MISSING if not isinstance(value, int | float) or not np.isfinite(value) else f"{value:.3f}"


def _share(value: object) -> str:
    return MISSING if not isinstance(value, int | float) or not np.isfinite(value) else f"{100 * value:.1f} %"


def _count(value: object) -> str:
    return MISSING if not isinstance(value, int | float) else f"{value:,.0f}"
