"""A model on the test cells of its scheme, and the metrics of its predictions."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import softmax

from fatescope.config import Params
from fatescope.data.dataset import CellDataset, class_indices
from fatescope.data.tracks import Tracks
from fatescope.inference.bundle import Bundle
from fatescope.inference.uncertainty import UNLIKE, Assessment
from pipelines.evaluation import calibration_metrics, intervals, metrics, predict, track_metrics
from pipelines.evaluation.audit_report import TaskBaselines
from pipelines.evaluation.metrics_report import (
    CompositionMetrics,
    GroupMetrics,
    LowerBound,
    SchemeMetrics,
    Score,
    SubsetMetrics,
)
from pipelines.evaluation.simulated_cultures import simulate_cultures
from pipelines.evaluation.track_report import TrackMetrics
from pipelines.evaluation.trust_report import CalibrationChange


@dataclass(frozen=True)
class EvaluatedModel:
    """A model and its predictions for n test cells."""

    model: Bundle
    rows: npt.NDArray[np.int64]
    """Rows of the manifest."""
    targets: npt.NDArray[np.int64]
    assessment: Assessment
    uncalibrated: npt.NDArray[np.float32]
    """(n, K) probabilities at temperature 1."""

    @property
    def weights(self) -> npt.NDArray[np.floating]:
        """Return (n,) weights that give the classes the shares for which the probabilities are calibrated."""
        return calibration_metrics.class_weights(self.targets, np.array(self.model.spec.prior))

    @property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """Return the (n, K) calibrated probabilities."""
        return self.assessment.probabilities

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Return (n,) indices of the most probable class."""
        predicted: npt.NDArray[np.int64] = self.probabilities.argmax(1)
        return predicted

    def score(self) -> Score:
        """Return the metrics of the predicted classes."""
        return metrics.score(self.targets, self.probabilities, self.model.spec.classes)


def run_model(model: Bundle, source: CellDataset, rows: npt.NDArray[np.int64]) -> EvaluatedModel:
    """Run `model` on the cells in `rows`."""
    assessment = predict.assess(model, source, rows)
    targets = class_indices(source.take(rows, ["label"])["label"], model.spec.classes)
    # Logits up to a constant for each cell, which softmax ignores; float32 holds probabilities down to 1e-38.
    logits = np.log(np.maximum(assessment.probabilities, np.finfo(np.float32).tiny))
    return EvaluatedModel(model, rows, targets, assessment, softmax(logits * model.spec.temperature, axis=1))


def measure(
    evaluated: EvaluatedModel,
    manifest: pd.DataFrame,
    baselines: TaskBaselines | None,
    composition: CompositionMetrics,
    params: Params,
    tracks: Tracks | None = None,
) -> SchemeMetrics:
    """Return all metrics of one model.

    `manifest` has the test cells, `baselines` is what the audit reached on them, if it audited these classes,
    `composition` comes from `compose`, and `tracks` tells which are images of one cell.
    """
    spec, settings = evaluated.model.spec, params.evaluate
    targets, probabilities, predicted = evaluated.targets, evaluated.probabilities, evaluated.predicted
    # Groups on the random scheme as well: there too the cells of one group are right or wrong together.
    units = intervals.choose_units(
        manifest["group"].to_numpy(str), manifest["label"].to_numpy(str), None if tracks is None else tracks.keys
    )
    limits = metrics.intervals(targets, probabilities, units, spec.classes, evaluated.weights)
    missing = why_none(limits, units)
    facts = dict.fromkeys(("group", *params.dataset.group, params.dataset.label))
    by = {fact: metrics.subset_metrics(manifest[fact].to_numpy(str), targets, predicted) for fact in facts}
    score = evaluated.score()
    reached = {} if baselines is None else {name: accuracy.value for name, accuracy in baselines}
    before, after = (
        calibration_metrics.calibration(targets, values, settings.bins, evaluated.weights)
        for values in (evaluated.uncalibrated, probabilities)
    )
    return SchemeMetrics(
        **score.model_dump(),
        intervals={name: None if name in missing else [ends.low, ends.high] for name, ends in limits.items()},
        no_interval=missing,
        lower_bound=LowerBound(
            value=metrics.lower_bound(targets, predicted, units, len(spec.classes)), units=units.kind
        ),
        resampled="groups",
        groups=manifest["group"].nunique(),
        rough=units.fewest < settings.min_groups,
        calibration=CalibrationChange(before=before, after=after),
        trust=calibration_metrics.trust(
            targets, evaluated.assessment, spec.classes, spec.hierarchy, spec.coarse_thresholds
        ),
        by=by,
        worst_group=_worst_group(by["group"]),
        composition=composition,
        tracks=measure_tracks(evaluated, tracks, settings.bins),
        baselines=reached,
        gain={name: score.balanced_accuracy - value for name, value in reached.items()},
    )


def measure_tracks(evaluated: EvaluatedModel, tracks: Tracks | None, bins: int) -> TrackMetrics | None:
    """Return the metrics of cells with several images, by the `tracks` of the test cells; None where there are few."""
    spec = evaluated.model.spec
    if tracks is None or spec.tracks is None:
        return None
    prior, assessment = np.array(spec.prior), evaluated.assessment
    followed = track_metrics.follow(
        evaluated.probabilities, assessment.verdicts != UNLIKE, evaluated.targets, tracks, prior, spec.tracks
    )
    return track_metrics.measure(followed, prior, spec.tracks, spec.coverage, bins)


def why_none(limits: dict[str, intervals.Interval], units: intervals.Units) -> dict[str, str]:
    """Return metric → why it has no interval."""
    few = intervals.why_none(units)
    if few is not None:
        return dict.fromkeys(limits, few)
    return {name: intervals.ALL_ALIKE for name, ends in limits.items() if ends.degenerate}


def _worst_group(groups: dict[str, SubsetMetrics]) -> GroupMetrics:
    name = min(groups, key=lambda group: (groups[group].accuracy, group))
    return GroupMetrics(name=name, **groups[name].model_dump())


def compose(
    evaluated: EvaluatedModel, manifest: pd.DataFrame, params: Params
) -> tuple[CompositionMetrics, pd.DataFrame]:
    """Estimate the composition of cultures that are mixed from the test cells; see `simulate_cultures`."""
    spec, settings = evaluated.model.spec, params.evaluate
    # On the random scheme the model has seen cells of every group, so that no culture is of one unseen run.
    groups = manifest["group"].to_numpy(str) if spec.split == "grouped" else np.full(len(manifest), "")
    return simulate_cultures(
        evaluated.targets,
        evaluated.probabilities,
        groups,
        np.array(spec.prior),
        np.array(spec.composition_error),
        settings.mixtures,
        settings.mixture_cells,
        settings.seed,
    )
