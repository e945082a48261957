"""Measure how good the models of a task are on cells that they have not seen, under the grouped and the random scheme.

Predictions come from the exported graph, so that what is measured is what is served.

Writes `metrics.json` (`pipelines.evaluation.metrics_report`), plots with their tables, and `predictions.parquet`: one
row a test cell and scheme, with the columns `split` (the scheme), `cell_id`, `label`, `group`, `predicted`, `verdict`,
`distance`, and the probability of each class as `p_CLASS`.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import typer

from fatescope.command import AuditFile, CellsFolder, ModelsFolder, OutFile, ParamsFile, SplitsFile, TaskName, run
from fatescope.config import Params, load
from fatescope.data import dataset
from fatescope.data.dataset import CellDataset
from fatescope.data.splits import load as load_splits
from pipelines.evaluation import curves
from pipelines.evaluation.audit_report import AuditReport, AuditSummary
from pipelines.evaluation.candidates import TrainedModel, compare_candidates, compare_seeds, run_models
from pipelines.evaluation.curves import Tables
from pipelines.evaluation.evaluated_model import compose, measure
from pipelines.evaluation.metrics_report import Metrics, SchemeMetrics
from pipelines.evaluation.plots import draw
from pipelines.registry import tracking

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SchemeEvaluation:
    """All that is reported of the model to serve under one scheme."""

    model: TrainedModel
    manifest: pd.DataFrame
    """The test cells."""
    metrics: SchemeMetrics
    tables: Tables
    cultures: pd.DataFrame
    """The table of `simulate_cultures`."""


def evaluate_scheme(model: TrainedModel, source: CellDataset, report: AuditReport, params: Params) -> SchemeEvaluation:
    """Evaluate the model to serve under one scheme."""
    evaluated = model.evaluated
    manifest = source.manifest.iloc[evaluated.rows]
    baselines = report.tasks.get(evaluated.model.spec.task, {}).get(model.scheme)
    composition, cultures = compose(evaluated, manifest, params)
    metrics = measure(evaluated, manifest, baselines, composition, params)
    return SchemeEvaluation(model, manifest, metrics, curves.tabulate(evaluated, params.evaluate.bins), cultures)


def summarise(
    task: str,
    models: list[TrainedModel],
    evaluations: dict[str, SchemeEvaluation],
    trained: dict[str, Any],
    audit: AuditSummary,
    confounded: dict[str, str],
) -> Metrics:
    """Return the content of `metrics.json`; `trained` is that of `models.json`."""
    spec = models[0].evaluated.model.spec
    seeds, gap = compare_seeds(models, trained["chosen"])
    return Metrics(
        task=task,
        classes=spec.classes,
        simulated=spec.simulated,
        confounded=confounded,
        schemes={scheme: evaluation.metrics for scheme, evaluation in evaluations.items()},
        chosen=trained["chosen"],
        candidates=compare_candidates(models, trained["candidates"]),
        seeds=seeds,
        gap=gap,
        audit=audit,
    )


def tabulate_predictions(evaluation: SchemeEvaluation) -> pd.DataFrame:
    """Return the rows of `predictions.parquet` of one scheme."""
    evaluated = evaluation.model.evaluated
    assessment, classes = evaluated.assessment, evaluated.model.spec.classes
    table = evaluation.manifest[["cell_id", "label", "group"]].reset_index(drop=True)
    table.insert(0, "split", evaluation.model.scheme)
    return table.assign(
        predicted=np.array(classes)[evaluated.predicted],
        verdict=assessment.verdicts,
        distance=assessment.distance,
        **{f"p_{name}": evaluated.probabilities[:, i] for i, name in enumerate(classes)},
    )


def track(evaluation: SchemeEvaluation, metrics: Metrics, audit: Path, target: Path) -> None:
    """Draw the plots of one scheme into the folder `target`, and log them with the metrics to its MLflow run."""
    scheme = evaluation.model.scheme
    with tracking.resumed(metrics.task, scheme, evaluation.model.run_id) as tracked:
        tracked.log_metrics({"test": evaluation.metrics.model_dump(), "seeds": metrics.seeds.model_dump()})
        tracked.set_tag("audit", metrics.audit.verdict)
        figures = draw(
            evaluation.model.evaluated,
            evaluation.metrics,
            evaluation.tables,
            evaluation.cultures,
            evaluation.manifest,
        )
        for name, figure in figures.items():
            figure.savefig(target / f"{name}_{scheme}.png", dpi=120)
            tracked.log_artifact(target / f"{name}_{scheme}.png")
        tracked.log_artifact(audit)


def main(
    params: ParamsFile,
    task: TaskName,
    source: CellsFolder,
    parts: SplitsFile,
    audit: AuditFile,
    models: ModelsFolder,
    predictions: Annotated[Path, typer.Option("--predictions", help="Parquet file to write: one row a test cell.")],
    target: OutFile,
    plots: Annotated[Path, typer.Option("--plots", help="Folder to draw plots into.")],
    tables: Annotated[Path, typer.Option("--tables", help="Folder to write the tables behind the plots into.")],
) -> None:
    """Evaluate the models of a task on test cells: metrics, intervals, plots."""
    mpl.use("Agg")
    settings, cells, splits = load(params), dataset.load(source), load_splits(parts)
    classes, trained = settings.classes(task), json.loads((models / "models.json").read_text())
    report = AuditReport.read(audit)
    ran = run_models(models, trained, cells, splits, settings, classes)
    evaluations: dict[str, SchemeEvaluation] = {}
    for model in ran:
        if model.scheme not in evaluations:  # the model to serve comes first
            evaluations[model.scheme] = evaluate_scheme(model, cells, report, settings)
    metrics = summarise(task, ran, evaluations, trained, report.summarise(classes), splits.confounded_in(classes))
    metrics.write(target)
    curves.write_tables({scheme: evaluation.tables for scheme, evaluation in evaluations.items()}, tables)
    pd.concat([tabulate_predictions(evaluation) for evaluation in evaluations.values()]).to_parquet(
        predictions, index=False
    )
    plots.mkdir(parents=True, exist_ok=True)
    for scheme, evaluation in evaluations.items():
        track(evaluation, metrics, audit, plots)
        low, high = evaluation.metrics.intervals["balanced_accuracy"]
        accuracy = evaluation.metrics.balanced_accuracy
        log.info(
            "%s, %s split: balanced accuracy %.3f (95 %% interval %.3f to %.3f)", task, scheme, accuracy, low, high
        )


if __name__ == "__main__":
    run(main)
