"""Measure how well acquisition alone predicts the class: what no model should be able to use.

Writes `audit.json` (`pipelines.evaluation.audit_report`) and one plot for each of its four questions: how well the
surroundings of the cell predict the class, what simple features of the cell reach, whether the groups of one class can
be told from each other, and which classes share groups. Where files of the instrument say how cells were acquired,
`facts` has what that alone predicts. Intervals are those of acquisition groups where a class has three or more, else of
cells, and hold for these groups alone; the report says which.
"""

import logging
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from fatescope.command import CellsFolder, OutFile, ParamsFile, PlotsFolder, SplitsFile, run
from fatescope.config import Audit, Dataset, load
from fatescope.data import splits, tracks
from fatescope.data.dataset import CellDataset
from fatescope.data.dataset import load as load_cells
from fatescope.data.tracks import Tracks
from pipelines.evaluation import acquisition, audit_plots, workers
from pipelines.evaluation.acquisition_facts import ALL, audit_facts
from pipelines.evaluation.audit_report import AuditReport, Confounding, FactAudit, PairAudit, Thresholds
from pipelines.evaluation.audit_sample import choose_cells, describe_cells
from pipelines.evaluation.confounding import cramers_v
from pipelines.evaluation.pair_audit import audit_pair

log = logging.getLogger(__name__)


def audit(
    source: CellDataset,
    confounded: dict[str, str],
    dataset: Dataset,
    normalisation: str,
    params: Audit,
    left_out: npt.NDArray[np.bool_] | None = None,
    of_cells: Tracks | None = None,
) -> AuditReport:
    """Audit the classes of all tasks; those in `confounded` have too few groups for folds by group.

    Of the (N,) cells, those that are `left_out` do not count; of a cell with several images, by `of_cells`, one does.
    Raises DataError where fewer than two classes have enough cells.
    """
    kept = np.arange(len(source)) if left_out is None else np.flatnonzero(~left_out)
    manifest = source.take(kept, list(dict.fromkeys(["label", "group", *dataset.group])))
    rows = kept[choose_cells(manifest, dataset, params, of_cells and of_cells.take(kept))]
    with workers.for_cells(len(rows)) as work:
        sample = describe_cells(source, rows, confounded, normalisation, work)
        predictions = acquisition.predict_from_acquisition(sample, params, work=work)
        from_cell = acquisition.predict_from_cell(sample, params, work)
        by_channel = acquisition.predict_from_channels(sample, params, work)
        groups = acquisition.separate_groups(sample, params, work)
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
        pairs=[audit_pair(sample, predictions, pair, params, by_channel) for pair in pairs],
        baseline={scheme: acquisition.score(sample, probabilities) for scheme, probabilities in from_cell.items()},
        tasks={task: by_scheme for task, by_scheme in baselines.items() if by_scheme},
        groups=groups,
        confounding=confounding(manifest, dataset),
        facts=audit_facts(sample, source.take(rows), params),
    )


def confounding(manifest: pd.DataFrame, dataset: Dataset) -> Confounding:
    """Return the cells by class and group, and how strongly each fact of the path goes with the class."""
    by_class: dict[str, dict[str, int]] = {}
    counts = manifest.groupby(["label", "group"], observed=True).size().reset_index(name="cells")
    for label, group, cells in zip(counts["label"], counts["group"], counts["cells"].tolist(), strict=True):
        by_class.setdefault(str(label), {})[str(group)] = cells
    facts = [name for name in (*dataset.group, "group") if name != dataset.label]
    return Confounding(
        cramers_v={name: cramers_v(pd.crosstab(manifest["label"], manifest[name]).to_numpy()) for name in facts},
        cells=by_class,
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


def describe_fact(name: str, fact: FactAudit) -> str:
    """Return what a fact of the acquisition predicts, as a line of text; empty where it is no better than chance."""
    accuracy = fact.accuracy.get("grouped") or fact.accuracy.get("random")
    if accuracy is None or accuracy.low <= accuracy.chance:
        return ""
    subject = f"{name} alone predicts" if name != ALL else f"{name} together predict"
    return (
        f"{subject} the class, as files of the instrument have it: balanced accuracy {accuracy.value:.2f} "
        f"({accuracy.low:.2f} to {accuracy.high:.2f}, chance {accuracy.chance:.2f})"
    )


def main(
    params: ParamsFile,
    source: CellsFolder,
    parts: SplitsFile,
    target: OutFile,
    plots: PlotsFolder,
) -> None:
    """Measure how well acquisition alone predicts the class, and name the shortcuts."""
    settings = load(params)
    torch.set_num_threads(settings.train.threads)
    divided, dataset = splits.load(parts), settings.dataset
    named = {name for classes in dataset.tasks.values() for name in classes}
    left_out = (divided.table["random"].isna() & divided.table["label"].isin(named)).to_numpy()
    columns = list(dict.fromkeys(["label", "group", *dataset.group]))
    cells, normalisation = load_cells(source, columns), settings.train.normalisation
    of_cells = tracks.read(cells, dataset)
    report = audit(cells, divided.confounded, dataset, normalisation, settings.audit, left_out, of_cells)
    report.write(target)
    audit_plots.draw(report, plots)
    for pair in report.pairs:
        log.info("%s", describe_pair(pair))
    for line in filter(None, (describe_fact(name, fact) for name, fact in report.facts.items())):
        log.warning("%s", line)


if __name__ == "__main__":
    run(main)
