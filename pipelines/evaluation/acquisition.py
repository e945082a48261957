"""How well models predict the class from the acquisition alone."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

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
from pipelines.evaluation.confounding import CROP, DESCRIPTIONS, INTENSITY, MODELS, Floats
from pipelines.evaluation.intervals import Units, counts_without, interval, make_units
from pipelines.evaluation.metrics import balanced_accuracy


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
        return self.description == INTENSITY


def predict_from_acquisition(
    sample: AuditSample, params: Audit, wanted: Callable[[str, str], bool] = lambda *_: True
) -> list[AcquisitionPrediction]:
    """Fit every model to every description, at both stages and under every scheme.

    Only those descriptions under those schemes for which `wanted(description, scheme)` is true.
    """
    jobs = [
        (stage, description, scheme, model)
        for stage in STAGES
        for description in DESCRIPTIONS
        # Normalisation does not change the size of a crop.
        if not (stage == "normalised" and description == CROP)
        for scheme in sample.schemes()
        if wanted(description, scheme)
        for model in MODELS
    ]
    return [
        AcquisitionPrediction(
            stage,
            description,
            scheme,
            model,
            predict(sample, sample.descriptions[stage][description], scheme, model, params),
        )
        for stage, description, scheme, model in tqdm(jobs, desc="audit: acquisition", unit="model", delay=1)
    ]


def predict_from_cell(sample: AuditSample, params: Audit) -> dict[str, Floats]:
    """Return scheme → (N, K) probabilities of a model on simple features of the cell."""
    return {scheme: predict(sample, sample.cell_features, scheme, "boosting", params) for scheme in sample.schemes()}


def predict(sample: AuditSample, features: Floats, scheme: str, model: str, params: Audit) -> Floats:
    """Return the (N, K) out-of-fold probabilities of `model`, NaN for cells outside the scheme."""
    rows = sample.schemes()[scheme]
    probabilities = np.full((len(rows), len(sample.classes)), np.nan)
    columns = np.flatnonzero(np.isin(sample.classes, sample.labels[rows]))
    groups = sample.groups[rows] if scheme == "grouped" else None
    folds = _count_folds(sample, rows, scheme, params)
    probabilities[np.ix_(rows, columns)] = confounding.out_of_fold(
        features[rows], sample.labels[rows], groups, MODELS[model], folds, params.seed
    )
    return probabilities


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


def separate_groups(sample: AuditSample, params: Audit) -> dict[str, GroupSeparability]:
    """Return class → how well its groups, the `params.max_groups` largest, can be told from each other.

    Classes with fewer than two groups of `params.folds` cells are left out.
    """
    separability = {}
    for name in sample.classes.tolist():
        rows = np.flatnonzero(sample.labels == name)
        names, counts = np.unique(sample.groups[rows], return_counts=True)
        largest = np.argsort(-counts, kind="stable")[: params.max_groups]
        chosen = np.sort(names[largest[counts[largest] >= params.folds]])
        if len(chosen) < 2:
            continue
        rows = rows[np.isin(sample.groups[rows], chosen)]
        groups = sample.groups[rows]
        units = make_units(rows.astype(str), groups)
        targets = np.searchsorted(chosen, groups)
        by_border, by_cell = (
            confounding.out_of_fold(features[rows], groups, None, MODELS["boosting"], params.folds, params.seed)
            for features in (sample.descriptions["raw"]["border"], sample.cell_features)
        )
        separability[name] = GroupSeparability(
            groups=len(chosen),
            border=_balanced_accuracy(targets, by_border.argmax(1), units, len(chosen)),
            cell=_balanced_accuracy(targets, by_cell.argmax(1), units, len(chosen)),
        )
    return separability
