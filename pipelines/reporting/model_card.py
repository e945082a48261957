"""The model card: what a model is, what it was trained on and where it fails, from the reports of the pipeline.

The sections follow Mitchell et al. 2019 (Model Cards for Model Reporting); one table answers the questions of DOME
(Walsh et al. 2021). `card.md` begins with the metadata that the Hugging Face Hub reads; `card.html` is the same text
with its images embedded. What is not known is stated as missing.
"""

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from fatescope import plural
from fatescope.data.acquisition_facts import PREFIX
from fatescope.data.dataset import MANIFEST, CellDataset
from fatescope.data.quality_gate import REASONS
from fatescope.data.table_parts import FileParts
from fatescope.inference import bundle
from fatescope.inference.bundle import Spec
from fatescope.model_registry import CHAMPION, model_name
from pipelines.evaluation.audit_report import AuditReport, PairAudit
from pipelines.evaluation.language_report import LANGUAGE, LanguageReport
from pipelines.evaluation.metrics_report import Metrics
from pipelines.evaluation.quality_report import QualityReport
from pipelines.registry.protocol import Protocol
from pipelines.registry.records import Verdict, VersionSummary
from pipelines.reporting.instrument_facts import name_instrument, tabulate_facts
from pipelines.reporting.running_cost import FILE, RunningCost

MISSING = "missing"
TEMPLATES = Path(__file__).with_name("templates")
PLOTS = {
    "confusion": "Confusion matrix: cells, and share of the true class",
    "groups": "Accuracy in each acquisition group, the lowest at the bottom, with binomial 95 % intervals",
    "reliability": "Accuracy against confidence, before and after temperature scaling",
    "risk_coverage": "Error rate among the most confident cells, against the share of cells that they are",
    "composition": "Estimated against true shares of simulated cultures",
    "roc": "ROC curve of each class against the rest",
}
"""Plot of the evaluation → its caption."""
QUALITY, QUALITY_PLOTS = "quality.json", ("area_aspect_ratio.png", "gradient_rms.png")
"""The report of the stage quality, and its plots, beside the pictures."""
MD, HTML, EXAMPLES = "card.md", "card.html", "examples.png"


@dataclass(frozen=True)
class Sources:
    """What a card is made from."""

    spec: Spec
    metrics: Metrics
    audit: AuditReport
    cells: pd.DataFrame
    """The manifest, cells of the task's classes."""
    pictures: Path
    """Folder of plots, and of the examples."""
    quality: QualityReport | None = None
    """How many cells are outside the gates; None where no gates were drawn."""
    gate: Verdict | None = None
    """The decision on the version, once it is registered."""
    history: tuple[VersionSummary, ...] = ()
    """The other versions, newest first."""
    running: RunningCost | None = None
    """What a thousand cells take; None where it was not measured."""
    protocol: Protocol | None = None
    """By which the next version is made and tested."""
    language: LanguageReport | None = None
    """A vision-language model on the same test cells; None where none was evaluated."""


@dataclass(frozen=True)
class GroupRow:
    """One acquisition group in the table of the data."""

    label: str
    day: str
    group: str
    cells: int
    confounded: str | None
    """Why the class has no grouped split, if it has none."""


def columns(cells: Path) -> list[str]:
    """Return which columns of the cells in the folder `cells` a card is made from."""
    return [
        name
        for name in FileParts(cells / MANIFEST).columns
        if name in ("label", "group", "day") or name.startswith(PREFIX)
    ]


def read_sources(folder: Path, known: CellDataset, metrics: Path, audit: Path, pictures: Path) -> Sources:
    """Read what a card of the bundle in `folder` is made from."""
    spec = bundle.read_spec(folder)
    cells = known.manifest[known.manifest["label"].isin(spec.classes)]
    quality = QualityReport.read(pictures / QUALITY) if (pictures / QUALITY).exists() else None
    running = RunningCost.read(pictures / FILE) if (pictures / FILE).exists() else None
    language = LanguageReport.read(pictures / LANGUAGE) if (pictures / LANGUAGE).exists() else None
    return Sources(
        spec,
        Metrics.read(metrics),
        AuditReport.read(audit),
        cells,
        pictures,
        quality,
        running=running,
        language=language,
    )


def write(sources: Sources, target: Path) -> None:
    """Write `card.md`, `card.html` and the images that the former refers to into the folder `target`."""
    target.mkdir(parents=True, exist_ok=True)
    text = render(sources)
    (target / MD).write_text(metadata(sources) + text, encoding="utf-8")
    (target / HTML).write_text(to_html(text, sources.pictures, model_name(sources.spec.task)), encoding="utf-8")
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
        finalize=within_cell,
    )  # fmt: skip
    environment.filters |= {"decimal": _decimal, "percent": _percent, "count": _count, "plural": plural.count}
    scheme = sources.spec.split
    return environment.get_template("card.md").render(
        spec=sources.spec,
        metrics=sources.metrics,
        served=sources.metrics.schemes[scheme],
        suspicions=[pair for pair in sources.audit.pairs if _is_suspicious(pair, sources.spec.classes)],
        by_channel=[
            pair for pair in sources.audit.pairs if pair.channels and set(pair.classes) <= set(sources.spec.classes)
        ],
        settings=sources.spec.params,
        groups=tabulate_groups(sources.cells, sources.spec.confounded),
        plots={name: text for name, text in PLOTS.items() if (sources.pictures / f"{name}_{scheme}.png").exists()},
        examples=(sources.pictures / EXAMPLES).exists(),
        quality=sources.quality,
        reasons=REASONS,
        gate=sources.gate,
        history=sources.history,
        protocol=sources.protocol,
        running=sources.running,
        language=sources.language,
        mark="###",
        instrument=name_instrument(sources.cells),
        facts=tabulate_facts(sources.cells, sources.audit),
        missing=MISSING,
        model_uri=_model_uri(sources),
    )


def within_cell(value: object) -> object:
    """Return a value for the card; a `|` in a text, such as the name of a class, must not end a cell of a table."""
    return value.replace("|", r"\|") if isinstance(value, str) else value


def _model_uri(sources: Sources) -> str:
    """Return the address of the version in MLflow, or of the champion where there is no version yet."""
    name = model_name(sources.spec.task)
    return f"models:/{name}/{sources.gate.version}" if sources.gate else f"models:/{name}@{CHAMPION}"


def _is_suspicious(pair: PairAudit, classes: list[str]) -> bool:
    return pair.verdict != "clean" and set(pair.classes) <= set(classes)


def metadata(sources: Sources) -> str:
    """Return the YAML block that the Hugging Face Hub reads, with the results as its model index."""
    spec = sources.spec
    results = [
        {
            "task": {"type": "image-classification", "name": f"{spec.task}: {', '.join(spec.classes)}"},
            "dataset": {
                "type": "fatescope-cells",
                "name": "simulated cells" if spec.simulated else "cells of the laboratory",
                "split": scheme,
                "revision": spec.data_hash,
            },
            "metrics": [
                {"type": name, "name": f"{name}, {scheme} split", "value": round(float(getattr(metrics, name)), 4)}
                for name in ("balanced_accuracy", "accuracy", "macro_f1", "mcc")
            ],
        }
        for scheme, metrics in sources.metrics.schemes.items()
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


def tabulate_groups(manifest: pd.DataFrame, confounded: dict[str, str]) -> list[GroupRow]:
    """Return one row an acquisition group; `confounded` is class → why it has no grouped split."""
    days = manifest["day"] if "day" in manifest.columns else pd.Series(MISSING, manifest.index, name="day")
    counts = manifest.groupby(["label", days, "group"], observed=True).size().rename("cells").reset_index()
    return [
        GroupRow(str(row["label"]), str(row["day"]), str(row["group"]), int(row["cells"]), confounded.get(row["label"]))
        for _, row in counts.iterrows()
    ]


def to_html(text: str, pictures: Path, title: str) -> str:
    """Return the card as one HTML page that needs no other file: images and style are embedded."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)

    def embed(match: re.Match[str]) -> str:
        raw = (pictures / match[1]).read_bytes()
        return f'src="data:image/png;base64,{base64.b64encode(raw).decode()}"'

    body = re.sub(r'src="card/([\w.]+)"', embed, body)
    # So that a wide table scrolls, not the page.
    body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
    page = (TEMPLATES / "page.html").read_text(encoding="utf-8")
    return page.replace("{{title}}", title).replace("{{body}}", body)


def _decimal(value: object) -> str:
    return MISSING if not isinstance(value, int | float) or not np.isfinite(value) else f"{value:.3f}"


def _percent(value: object) -> str:
    return MISSING if not isinstance(value, int | float) or not np.isfinite(value) else f"{100 * value:.1f} %"


def _count(value: object) -> str:
    return MISSING if not isinstance(value, int | float) else f"{value:,.0f}"
