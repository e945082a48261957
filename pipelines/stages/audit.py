"""Measure how well acquisition alone predicts the class: what no model should be able to use.

Writes `audit.json` (`pipelines.evaluation.audit_report`) and one plot for each of its four questions: how well the
surroundings of the cell predict the class, what simple features of the cell reach, whether the groups of one class can
be told from each other, and which classes share groups. Intervals are those of acquisition groups where a class has
three or more, else of cells, and hold for these groups alone; the report says which.
"""

import logging
from itertools import combinations
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from fatescope.command import CellsFolder, OutFile, ParamsFile, SplitsFile, run
from fatescope.config import Audit, Dataset, load
from fatescope.data import splits
from fatescope.data.dataset import CellDataset
from fatescope.data.dataset import load as load_cells
from pipelines.evaluation import acquisition, audit_plots
from pipelines.evaluation.audit_report import AuditReport, Confounding, PairAudit, Thresholds
from pipelines.evaluation.audit_sample import choose_cells, describe_cells
from pipelines.evaluation.confounding import cramers_v
from pipelines.evaluation.pair_audit import audit_pair

log = logging.getLogger(__name__)


def audit(
    source: CellDataset, confounded: dict[str, str], dataset: Dataset, normalisation: str, params: Audit
) -> AuditReport:
    """Audit the classes of all tasks; those in `confounded` have too few groups for folds by group.

    Raises DataError where fewer than two classes have enough cells.
    """
    rows = choose_cells(source.manifest, dataset, params)
    sample = describe_cells(source, rows, confounded, normalisation)
    predictions = acquisition.predict_from_acquisition(sample, params)
    from_cell = acquisition.predict_from_cell(sample, params)
    baselines = {
        task: acquisition.task_baselines(sample, predictions, from_cell, classes)
        for task, classes in dataset.tasks.items()
        if set(classes) <= set(sample.classes)
    }
    pairs = combinations(sample.classes.tolist(), 2)
    return AuditReport(
        cells=len(rows),
        thresholds=Thresholds(suspect=params.suspect_auc, shortcut=params.shortcut_auc),
        resampled={name: sample.resampled(name) for name in sample.classes.tolist()},
        acquisition=acquisition.tabulate(sample, predictions),
        pairs=[audit_pair(sample, predictions, pair, params) for pair in pairs],
        baseline={scheme: acquisition.score(sample, probabilities) for scheme, probabilities in from_cell.items()},
        tasks={task: by_scheme for task, by_scheme in baselines.items() if by_scheme},
        groups=acquisition.separate_groups(sample, params),
        confounding=confounding(source.manifest, dataset),
    )


def confounding(manifest: pd.DataFrame, dataset: Dataset) -> Confounding:
    """Return the cells by class and group, and how strongly each fact of the path goes with the class."""
    facts = [name for name in (*dataset.group, "group") if name != dataset.label]
    return Confounding(
        cramers_v={name: cramers_v(pd.crosstab(manifest["label"], manifest[name]).to_numpy()) for name in facts},
        cells={
            str(name): cells["group"].value_counts().sort_index().to_dict() for name, cells in manifest.groupby("label")
        },
    )


def describe_pair(pair: PairAudit) -> str:
    """Return the verdicts on a pair of classes, with the strongest evidence, as one line of text."""
    evidence = pair.raw
    return (
        f"{' / '.join(pair.classes)}: {pair.verdict}{' and confounded' if pair.confounded else ''}, "
        f"after normalisation {pair.verdict_normalised} (strongest evidence: {evidence.model} on "
        f"{evidence.description}, AUC {evidence.value:.2f}, 95 % interval {evidence.low:.2f} to {evidence.high:.2f}, "
        f"at least {evidence.at_least:.2f})"
    )


def main(
    params: ParamsFile,
    source: CellsFolder,
    parts: SplitsFile,
    target: OutFile,
    plots: Annotated[Path, typer.Option("--plots", help="Folder to draw plots into.")],
) -> None:
    """Measure how well acquisition alone predicts the class, and name the shortcuts."""
    settings = load(params)
    torch.set_num_threads(settings.train.threads)
    confounded = splits.load(parts).confounded
    report = audit(load_cells(source), confounded, settings.dataset, settings.train.normalisation, settings.audit)
    report.write(target)
    audit_plots.draw(report, plots)
    for pair in report.pairs:
        log.info("%s", describe_pair(pair))


if __name__ == "__main__":
    run(main)
