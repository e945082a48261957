"""Measure how good the models of a task are on cells that they have not seen, under the grouped and the random scheme.

Predictions come from the exported graph, so that what is measured is what is served; on a GPU from the same network in
float32, which must agree with the graph (`pipelines.evaluation.on_device`).

Writes `metrics.json` (`pipelines.evaluation.metrics_report`), plots with their tables, and `predictions.parquet`: one
row a test cell and scheme, with the columns `split` (the scheme), `cell_id`, `label`, `group`, `predicted`, `verdict`,
`distance`, and the probability of each class as `p_CLASS`.
"""

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from fatescope.atomic import replacing
from fatescope.command import (
    AuditFile,
    CellsFolder,
    ModelsFolder,
    OutFile,
    ParamsFile,
    PlotsFolder,
    SplitsFile,
    TaskName,
    run,
)
from fatescope.config import load
from fatescope.data import dataset
from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.data.splits import load as load_splits
from fatescope.data.tracks import Tracks
from fatescope.data.tracks import read as read_tracks
from fatescope.inference import bundle
from fatescope.lineage import WRITES
from pipelines.evaluation import curves, drawing, on_device
from pipelines.evaluation.audit_report import AuditReport, AuditSummary
from pipelines.evaluation.evaluated_model import EvaluatedModel, run_model
from pipelines.evaluation.known_before import leave_out
from pipelines.evaluation.language_report import LANGUAGE, LanguageReport
from pipelines.evaluation.metrics_report import CandidateMetrics, CandidateScore, Metrics, SchemeMetrics, SeedMetrics
from pipelines.evaluation.plots import draw
from pipelines.evaluation.scheme_evaluation import SchemeEvaluation, evaluate_scheme
from pipelines.registry import tracking
from pipelines.training.report import ModelEntry, TrainingReport

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """A model that the stage train made, and its predictions for the test cells."""

    entry: ModelEntry
    evaluated: EvaluatedModel

    @property
    def scheme(self) -> str:
        """Return the scheme whose training and validation cells the model has seen."""
        return self.entry.split


def run_models(
    folder: Path,
    trained: TrainingReport,
    source: CellDataset,
    splits: Splits,
    threads: int,
    tracks: Tracks | None = None,
) -> list[TrainedModel]:
    """Run every bundle below `folder` that `trained` lists on the test cells of its scheme.

    Without those that the weights it began with were trained on, nor other images of such a cell, by `tracks`.
    """
    models = []
    for entry in trained.models:
        model = on_device.load(folder / entry.folder, threads)
        rows = splits.indices(entry.split, "test", model.spec.classes)
        rows = leave_out(rows, source, bundle.known_before(folder / entry.folder), tracks)
        models.append(TrainedModel(entry, run_model(model, source, rows)))
    return models


def compare_seeds(models: list[TrainedModel], chosen: str) -> tuple[SeedMetrics, float | None]:
    """Return how the balanced accuracy of the candidate `chosen` varies with the seed, and the gap between schemes.

    The gap is the balanced accuracy on the random split less that on the grouped one, None where there is only one.
    """
    first = models[0].scheme
    scored = [(model, model.evaluated.score().balanced_accuracy) for model in models]
    values = [value for model, value in scored if (model.scheme, model.entry.candidate) == (first, chosen)]
    others = [value for model, value in scored if model.scheme != first]
    seeds = SeedMetrics(
        scheme=first,
        mean=float(np.mean(values)),
        deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        values=values,
    )
    return seeds, others[0] - values[0] if others else None


def compare_candidates(models: list[TrainedModel], trained: TrainingReport) -> dict[str, CandidateMetrics]:
    """Return the metrics of all candidates under the first scheme."""
    compared: dict[str, CandidateMetrics] = {}
    for model in models:
        name = model.entry.candidate
        if model.scheme == models[0].scheme and name not in compared:
            score, candidate = model.evaluated.score(), trained.candidates[name]
            compared[name] = CandidateMetrics(
                backbones=[member.backbone for member in candidate.members],
                **candidate.model_dump(exclude={"members", "shortened"}),
                test=CandidateScore(balanced_accuracy=score.balanced_accuracy, macro_f1=score.macro_f1, mcc=score.mcc),
            )
    return compared


def summarise(
    task: str,
    models: list[TrainedModel],
    evaluations: dict[str, SchemeEvaluation],
    trained: TrainingReport,
    audit: AuditSummary,
    confounded: dict[str, str],
) -> Metrics:
    """Return the content of `metrics.json`; `confounded` is class → why it has no grouped split."""
    spec = models[0].evaluated.model.spec
    seeds, gap = compare_seeds(models, trained.chosen)
    return Metrics(
        task=task,
        classes=spec.classes,
        simulated=spec.simulated,
        confounded=confounded,
        schemes={scheme: evaluation.metrics for scheme, evaluation in evaluations.items()},
        chosen=trained.chosen,
        candidates=compare_candidates(models, trained),
        seeds=seeds,
        gap=gap,
        audit=audit,
    )


def write_predictions(evaluations: dict[str, SchemeEvaluation], source: CellDataset, target: Path) -> None:
    """Write `predictions.parquet` of all schemes, a part of the cells at a time."""
    writer: pq.ParquetWriter | None = None
    with replacing(target) as part, ExitStack() as stack:
        for evaluation in evaluations.values():
            for rows in evaluation.tabulate_predictions(source):
                table = pa.Table.from_pandas(rows, preserve_index=False)
                writer = writer or stack.enter_context(pq.ParquetWriter(part, table.schema))
                writer.write_table(table)


def track(evaluation: SchemeEvaluation, run_id: str, metrics: Metrics, audit: Path, target: Path) -> None:
    """Draw the plots of one scheme into the folder `target`, and log them with the metrics to the run `run_id`."""
    with tracking.resumed(metrics.task, evaluation.scheme, run_id) as tracked:
        tracked.log_metrics({"test": evaluation.metrics.model_dump(), "seeds": metrics.seeds.model_dump()})
        tracked.set_tag("audit", metrics.audit.verdict)
        for name, figure in draw(evaluation).items():
            path = target / f"{name}_{evaluation.scheme}.png"
            figure.savefig(path, dpi=120)
            tracked.log_artifact(path)
        tracked.log_artifact(audit)


def show_language(report: Path, scheme: str, metrics: SchemeMetrics) -> None:
    """Log the table of a vision-language model and the difference from it, if it was evaluated beside this model."""
    if (beside := LanguageReport.read_beside(report, scheme, metrics)) is not None:
        log.info("%s, %s split:\n%s\n\n%s", beside.task, scheme, beside.table(), beside.sentences())


def main(
    params: ParamsFile,
    task: TaskName,
    source: CellsFolder,
    parts: SplitsFile,
    audit: AuditFile,
    models: ModelsFolder,
    predictions: Annotated[
        Path, typer.Option("--predictions", help="Parquet file to write: one row a test cell."), WRITES
    ],
    target: OutFile,
    plots: PlotsFolder,
    tables: Annotated[Path, typer.Option("--tables", help="Folder to write the tables behind the plots into."), WRITES],
) -> None:
    """Evaluate the models of a task on test cells: metrics, intervals, plots."""
    drawing.prepare()
    settings, cells, splits = load(params), dataset.load(source, ["label"]), load_splits(parts)
    classes, trained = settings.classes(task), TrainingReport.load(models)
    report = AuditReport.read(audit)
    of_cells = read_tracks(cells, settings.dataset)
    ran = run_models(models, trained, cells, splits, settings.train.threads, of_cells)
    # The model to serve is the first one of each scheme.
    served = {model.scheme: model for model in reversed(ran)}
    schemes = dict.fromkeys(model.scheme for model in ran)
    evaluations = {scheme: evaluate_scheme(served[scheme].evaluated, cells, report, settings) for scheme in schemes}
    metrics = summarise(task, ran, evaluations, trained, report.summarise(classes), splits.confounded_in(classes))
    metrics.write(target)
    curves.write_tables({scheme: evaluation.tables for scheme, evaluation in evaluations.items()}, tables)
    write_predictions(evaluations, cells, predictions)
    plots.mkdir(parents=True, exist_ok=True)
    for scheme, evaluation in evaluations.items():
        track(evaluation, served[scheme].entry.run_id, metrics, audit, plots)
        log.info("%s, %s split: %s", task, scheme, evaluation.describe())
    # That model is one of the first scheme, as the bundle is.
    first = next(iter(schemes))
    show_language(target.parent / LANGUAGE, first, metrics.schemes[first])


if __name__ == "__main__":
    run(main)
