"""`artifacts.md`: what each stage reads and writes, from dvc.yaml, and what is in the files, from the code."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from generators.markdown import code, docstring, sentence, table
from generators.schema import kind
from pipelines.evaluation.audit_report import AuditReport
from pipelines.evaluation.metrics_report import Metrics
from pipelines.evaluation.quality_report import QualityReport
from pipelines.evaluation.report import Report
from pipelines.pretraining.result import PretrainingReport
from pipelines.registry.comparison import Comparison
from pipelines.registry.records import Verdict
from pipelines.verification.report import Verification

INTRODUCTION = """\
Paths are those of `dvc.yaml`, with TASK for the name of a task. Code that a stage depends on is left out here.
Formats are open ones; no file is a pickle.
"""
FORMATS = {
    "The cell table: `artifacts/cells`": "fatescope/data/dataset.py",
    "The splits: `artifacts/splits.parquet`": "fatescope/data/splits.py",
    "The quality of cells: `artifacts/quality.parquet`": "fatescope/data/quality_table.py",
    "A bundle": "fatescope/inference/bundle.py",
    "The records of the service: `records`": "service/inference/prediction_log.py",
    "What challengers answered: `records/TASK/shadow`": "fatescope/inference/shadow_records.py",
    "Corrections: `feedback`": "service/api/feedback.py",
    "A batch job": "service/batch/job.py",
    "Incidents: `incidents`": "monitoring/incidents.py",
    "How a model was made: `recipe.json`": "pipelines/provenance/recipe.py",
    "Where it comes from: `attestation.json`": "pipelines/provenance/attestation.py",
    "What it consists of: `sbom.cdx.json`": "pipelines/provenance/components.py",
    "Versions in the registry": "pipelines/registry/versions.py",
}
"""Heading → the module whose docstring describes the files."""
REPORTS: dict[str, type[Report]] = {
    "The audit: `reports/audit.json`": AuditReport,
    "The quality of cells: `reports/quality.json`": QualityReport,
    "Pretraining: `artifacts/pretrained/report.json`": PretrainingReport,
    "Metrics: `reports/TASK/metrics.json`": Metrics,
    "The verdict of the gate: `reports/TASK/gate.json`": Verdict,
    "A comparison of versions: `reports/TASK/compare/A-B.json`": Comparison,
    "A version built again: `reports/TASK/verify/VERSION.json`": Verification,
}
"""Heading → the model of a report; its fields are those of the file."""


def page(root: Path) -> str:
    """Return the page."""
    stages: dict[str, Any] = YAML(typ="safe", pure=True).load(root / "dvc.yaml")["stages"]
    parts = ["# Artifacts", INTRODUCTION, "## Stages"]
    for name, stage in stages.items():
        parts += [f"### {name}", _doc(root / f"pipelines/stages/{name}.py"), _stage(stage.get("do", stage))]
    parts += ["## Files"]
    for heading, module in FORMATS.items():
        parts += [f"### {heading}", _doc(root / module)]
    parts += ["## Reports"]
    objects: dict[str, str] = {}
    for heading, report in REPORTS.items():
        schema = report.model_json_schema(mode="validation", by_alias=True)
        parts += [f"### {heading}", docstring(report.__doc__), _fields(schema)]
        for name, definition in schema.get("$defs", {}).items():
            objects[name] = f"#### {name}\n\n{docstring(definition.get('description'))}\n\n{_fields(definition)}"
    parts += ["### Objects in reports", *(objects[name] for name in sorted(objects))]
    return "\n\n".join(parts)


def _fields(schema: Mapping[str, Any]) -> str:
    """Return a table of the fields of an object."""
    rows = [
        [code(name), kind(field, linked=True), sentence(field.get("description"))]
        for name, field in schema["properties"].items()
    ]
    return table(["field", "type", "meaning"], rows)


def _doc(module: Path) -> str:
    return docstring(ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))))


def _stage(stage: Mapping[str, Any]) -> str:
    reads = [path for path in _paths(stage.get("deps", [])) if not _is_code(path)]
    writes = [path for key in ("outs", "metrics", "plots") for path in _paths(stage.get(key, []))]
    params = [str(name) for name in stage.get("params", [])]
    rows = [("reads", reads), ("writes", writes), ("parameters", params)]
    return table(["", ""], [[what, ", ".join(code(_spelled(path)) for path in found)] for what, found in rows])


def _paths(entries: list[str | dict[str, Any]]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def _is_code(path: str) -> bool:
    return path.endswith(".py") or path.split("/", maxsplit=1)[0] in ("fatescope", "pipelines", "service", "monitoring")


def _spelled(path: str) -> str:
    return path.replace("${key}", "TASK").replace("${item}", "TASK")
