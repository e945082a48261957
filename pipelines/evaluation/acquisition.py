"""How well models predict the class from the acquisition alone."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import starmap
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from fatescope.config import Audit
from pipelines.evaluation import confounding
from pipelines.evaluation.audit_report import (
    STAGES,
    Acquisition,
    BalancedAccuracy,
    GroupSeparability,
    Stage,
    TaskBaselines,
)
from pipelines.evaluation.audit_sample import AuditSample
from pipelines.evaluation.confounding import CROP, DESCRIPTIONS, INTENSITY, MODELS, Floats, Texts, kind_of
from pipelines.evaluation.intervals import Units, counts_without, interval, make_units
from pipelines.evaluation.metrics import balanced_accuracy
from pipelines.evaluation.workers import StarMap


@dataclass(frozen=True)
class AcquisitionPrediction:
    """What one model predicts from one description of the acquisition."""

    stage: Stage
    description: str
    scheme: str
    """Of the folds: `random`, or `grouped` with no group in two folds."""
    model: str
    probabilities: Floats
    """(N, K), NaN for cells that folds under this scheme cannot hold."""

    @property
    def may_hold_cell(self) -> bool:
        """Return whether the description contains a trace of the cell itself."""
        return kind_of(self.description) == INTENSITY


def predict_from_acquisition(
    sample: AuditSample,
    params: Audit,
    wanted: Callable[[str, str], bool] = lambda *_: True,
    work: StarMap = starmap,
) -> list[AcquisitionPrediction]:
    """Fit every model to every description, at both stages and under every scheme.

    Only those descriptions under those schemes for which `wanted(description, scheme)` is true.
    """
    jobs = [
        (stage, description, scheme, model)
        for stage in STAGES
        for kind in DESCRIPTIONS
        for description in sample.descriptions[stage]
        # Normalisation does not change the size of a crop.
        if kind_of(description) == kind and not (stage == "normalised" and description == CROP)
        for scheme in sample.schemes()
        if wanted(description, scheme)
        for model in MODELS
    ]
    asked = [(sample.descriptions[stage][description], scheme, model) for stage, description, scheme, model in jobs]
    progress = tqdm(total=len(jobs), desc="audit: acquisition", unit="model", delay=1)
    with progress:
        return [
            AcquisitionPrediction(*job, probabilities)
            for job, probabilities in zip(jobs, predict(sample, asked, params, work, progress), strict=True)
        ]


def predict_from_cell(sample: AuditSample, params: Audit, work: StarMap = starmap) -> dict[str, Floats]:
    """Return scheme → (N, K) probabilities of a model on simple features of the cell."""
    schemes = list(sample.schemes())
    asked = [(sample.cell_features, scheme, "boosting") for scheme in schemes]
    return dict(zip(schemes, predict(sample, asked, params, work), strict=True))


def predict_from_channels(sample: AuditSample, params: Audit, work: StarMap = starmap) -> dict[str, dict[str, Floats]]:
    """Return scheme → channel → (N, K) probabilities of a model on simple features of the cell in that one."""
    found: dict[str, dict[str, Floats]] = {scheme: {} for scheme in sample.schemes()}
    jobs = [(scheme, name) for scheme in found for name in sample.by_channel]
    asked = [(sample.by_channel[name], scheme, "boosting") for scheme, name in jobs]
    for (scheme, name), probabilities in zip(jobs, predict(sample, asked, params, work), strict=True):
        found[scheme][name] = probabilities
    return found


def predict(
    sample: AuditSample,
    asked: Sequence[tuple[Floats, str, str]],
    params: Audit,
    work: StarMap = starmap,
    progress: "tqdm[Any] | None" = None,
) -> list[Floats]:
    """Return for each of (features, scheme, model) the (N, K) out-of-fold probabilities.

    Those of cells outside the scheme are NaN.
    """
    schemes, fits, found = sample.schemes(), [], list[Floats]()
    for features, scheme, model in asked:
        rows = schemes[scheme]
        groups = sample.groups[rows] if scheme == "grouped" else None
        folds = _count_folds(sample, rows, scheme, params)
        fits.append((features[rows], sample.labels[rows], groups, model, folds, params.seed))
    for (_, scheme, _), of_rows in zip(asked, work(confounding.out_of_fold, fits), strict=True):
        rows = schemes[scheme]
        probabilities = np.full((len(rows), len(sample.classes)), np.nan)
        probabilities[np.ix_(rows, np.isin(sample.classes, sample.labels[rows]))] = of_rows
        found.append(probabilities)
        if progress is not None:
            progress.update()
    return found


def _count_folds(sample: AuditSample, rows: npt.NDArray[np.bool_], scheme: str, params: Audit) -> int:
    """Return as many folds as the rarest class has cells or groups, at most `params.folds`."""
    units = sample.groups if scheme == "grouped" else np.arange(len(sample.labels)).astype(str)
    counts = [len(np.unique(units[rows & (sample.labels == name)])) for name in np.unique(sample.labels[rows])]
    return min(params.folds, *counts)


def score(sample: AuditSample, probabilities: Floats) -> BalancedAccuracy:
    """Return the balanced accuracy of (N, K) probabilities; cells whose probabilities are NaN do not count."""
    rows = np.asarray(~np.isnan(probabilities).all(1))
    targets = np.searchsorted(sample.classes, sample.labels[rows])
    predicted = np.nan_to_num(probabilities[rows], nan=-1).argmax(1)
    return _balanced_accuracy(targets, predicted, sample.units.among(rows), len(np.unique(targets)))


def _balanced_accuracy(
    targets: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], units: Units, classes: int
) -> BalancedAccuracy:
    size = int(max(targets.max(), predicted.max())) + 1
    values = balanced_accuracy(counts_without(targets, predicted, units, size))
    return BalancedAccuracy(**asdict(interval(values, units)), chance=1 / classes)


def tabulate(sample: AuditSample, predictions: list[AcquisitionPrediction]) -> Acquisition:
    """Return the balanced accuracy of each prediction, nested as in the report."""
    table: Acquisition = {}
    for prediction in predictions:
        by_scheme = table.setdefault(prediction.stage, {}).setdefault(prediction.description, {})
        by_scheme.setdefault(prediction.scheme, {})[prediction.model] = score(sample, prediction.probabilities)
    return table


def task_baselines(
    sample: AuditSample,
    predictions: list[AcquisitionPrediction],
    from_cell: dict[str, Floats],
    classes: list[str],
) -> dict[str, TaskBaselines]:
    """Return scheme → what a network must beat where the choice is between `classes` only.

    The models know all classes of the sample. Schemes that lack one of `classes` are left out.
    """
    others, rows = ~np.isin(sample.classes, classes), np.isin(sample.labels, classes)

    def score_within_task(probabilities: Floats) -> BalancedAccuracy:
        narrowed = probabilities.copy()
        narrowed[:, others] = -1
        narrowed[np.isnan(probabilities).all(1) | ~rows] = np.nan
        return score(sample, narrowed)

    baselines = {}
    for scheme, chosen in sample.schemes().items():
        if set(classes) <= set(sample.labels[chosen]):
            alone = [
                score_within_task(prediction.probabilities)
                for prediction in predictions
                if (prediction.stage, prediction.scheme) == ("raw", scheme) and not prediction.may_hold_cell
            ]
            baselines[scheme] = TaskBaselines(
                acquisition=max(alone, key=lambda accuracy: accuracy.value),
                cell_figures=score_within_task(from_cell[scheme]),
            )
    return baselines


def separate_groups(sample: AuditSample, params: Audit, work: StarMap = starmap) -> dict[str, GroupSeparability]:
    """Return class → how well its groups, the `params.max_groups` largest, can be told from each other.

    Classes with fewer than two groups of `params.folds` cells are left out.
    """
    compared, fits = dict[str, tuple[npt.NDArray[np.int64], Texts]](), []
    for name in sample.classes.tolist():
        rows = np.flatnonzero(sample.labels == name)
        names, counts = np.unique(sample.groups[rows], return_counts=True)
        largest = np.argsort(-counts, kind="stable")[: params.max_groups]
        chosen = np.sort(names[largest[counts[largest] >= params.folds]])
        if len(chosen) < 2:
            continue
        rows = rows[np.isin(sample.groups[rows], chosen)]
        compared[name] = rows, chosen
        fits += [
            (features[rows], sample.groups[rows], None, "boosting", params.folds, params.seed)
            for features in (sample.descriptions["raw"]["border"], sample.cell_features)
        ]
    predicted, separability = iter(work(confounding.out_of_fold, fits)), {}
    for name, (rows, chosen) in compared.items():
        by_border, by_cell = next(predicted), next(predicted)
        units, targets = make_units(rows.astype(str), sample.groups[rows]), np.searchsorted(chosen, sample.groups[rows])
        separability[name] = GroupSeparability(
            groups=len(chosen),
            border=_balanced_accuracy(targets, by_border.argmax(1), units, len(chosen)),
            cell=_balanced_accuracy(targets, by_cell.argmax(1), units, len(chosen)),
        )
    return separability
