"""`metrics.json`: how good the models of a task are on cells that they have not seen."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from pipelines.evaluation.audit_report import AuditSummary
from pipelines.evaluation.report import Report
from pipelines.evaluation.track_report import TrackMetrics
from pipelines.evaluation.trust_report import CalibrationChange, Trust


class Score(Report):
    """Metrics of a classifier on test cells."""

    cells: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    mcc: float
    """Matthews correlation coefficient."""
    auc: dict[str, float]
    """Class → area under the ROC curve of that class against the rest."""
    average_precision: dict[str, float]
    """Class → average precision of that class against the rest."""
    confusion: list[list[int]]
    """(K, K) cells, true class by row."""
    confusion_rates: list[list[float]]
    """The same as shares of the true class."""


class SubsetMetrics(Report):
    """Metrics on the cells that share a value of some fact."""

    cells: int
    accuracy: float
    balanced_accuracy: float
    """Over the classes that these cells have."""


class GroupMetrics(Report):
    """Metrics on one acquisition group."""

    name: str
    cells: int
    accuracy: float
    balanced_accuracy: float


class Robustness(Report):
    """How well test cells are classified as other instruments would have taken them."""

    cells: int
    """Test cells that were shifted."""
    balanced_accuracy: float
    """On these cells as they are."""
    shifted: dict[str, float]
    """What differs, such as the focus → balanced accuracy on the same cells with that difference."""


class CompositionMetrics(Report):
    """How well the composition of simulated cultures is estimated."""

    mean_error: float
    """Mean absolute error of a share."""
    mean_error_of_counting: float
    """The same where predicted classes are counted."""
    interval_coverage: float
    """Share of true shares inside their 95 % interval."""
    interval_width: float
    """Mean width of these intervals."""


class MapMetrics(Report):
    """Whether activation maps point at what decides: deletion and insertion (Petsiuk, Das and Saenko 2018)."""

    cells: int
    """Test cells that were tried."""
    positions: tuple[int, int]
    """Rows and columns of a map."""
    deletion: float
    """Mean probability of the predicted class while the pixels of the cell are replaced by its background, those first
    where the map speaks most for the class; lower is better."""
    deletion_random: float
    """The same with the positions of each map in random order."""
    insertion: float
    """The same while they are put back into a blurred cell; higher is better."""
    insertion_random: float
    """The same with the positions of each map in random order."""
    gain: dict[str, float]
    """`deletion` and `insertion` → how much better the map does than random order."""
    intervals: dict[str, list[float] | None]
    """The same → the 95 % interval of `gain`; null where there are too few acquisition groups."""

    def conclusion(self) -> str:
        """Return in a sentence what the intervals allow to say."""
        known = [limits for limits in self.intervals.values() if limits is not None]
        if len(known) < len(self.intervals):
            return "Too few acquisition groups to say whether that is better than chance."
        if all(low > 0 for low, _ in known):
            return "Both are better than chance, so the map points at what decides."
        return "That is not better than chance by both, so do not rely on the map."


class LowerBound(Report):
    """What the balanced accuracy is at least: 97.5 % of such bounds are below the truth."""

    value: float
    units: Literal["groups", "cells"]
    """What was left out in turn; with cells, where some class has a single group, it holds for these groups alone."""


class SchemeMetrics(Score):
    """All metrics of the model to serve under one scheme."""

    intervals: dict[str, list[float] | None]
    """Metric, or `auc.CLASS`, → the 95 % interval `[low, high]`; null where there is none (`no_interval`)."""
    no_interval: dict[str, str] = Field(default_factory=dict)
    """Metric → why it has no interval, such as too few acquisition groups."""
    lower_bound: LowerBound | None = None
    """Of the balanced accuracy, which the gate compares with chance; from two groups of each class on by groups."""
    resampled: Literal["groups", "cells"]
    """The unit of the intervals: acquisition groups; reports of earlier versions could have cells instead."""
    groups: int
    """Acquisition groups among the test cells."""
    rough: bool
    """Whether some class has fewer test groups than `evaluate.min_groups`: intervals are then wide, or missing."""
    calibration: CalibrationChange
    trust: Trust
    maps: MapMetrics | None = None
    """Whether activation maps point at what decides; none in reports of before."""
    by: dict[str, dict[str, SubsetMetrics]]
    """Fact of the path → value → metrics."""
    worst_group: GroupMetrics
    robustness: Robustness | None = None
    """Left out of reports of earlier versions."""
    composition: CompositionMetrics
    tracks: TrackMetrics | None = None
    """Of cells with several images over time; left out of the file where there are none."""
    baselines: dict[str, float]
    """`acquisition` and `cell_figures` → balanced accuracy of what a network must beat, from the audit."""
    gain: dict[str, float]
    """The same → balanced accuracy of the model less that of the baseline."""

    @model_serializer(mode="wrap")
    def _without_missing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        names = ("no_interval", "lower_bound", "robustness", "maps", "tracks")
        absent = {name for name in names if not content[name]}
        return {name: value for name, value in content.items() if name not in absent}

    def describe_interval(self, name: str, form: str = "({low:.3f} to {high:.3f})") -> str:
        """Return the interval of a metric as text, or that it has none and why."""
        limits = self.intervals.get(name)
        if limits is None:
            return f"(no interval: {self.no_interval.get(name, 'it was not computed')})"
        return form.format(low=limits[0], high=limits[1])

    def at_least(self) -> LowerBound | None:
        """Return the lower bound of the balanced accuracy, which reports of earlier versions have in the interval."""
        limits = self.intervals.get("balanced_accuracy")
        if self.lower_bound is None and limits is not None:
            return LowerBound(value=limits[0], units=self.resampled)
        return self.lower_bound


class CandidateScore(Report):
    """Metrics of a candidate on the test cells."""

    balanced_accuracy: float
    macro_f1: float
    mcc: float


class CandidateMetrics(Report):
    """A candidate for the model to serve: validation, cost and test metrics."""

    backbones: list[str]
    validation_loss: float
    validation_balanced_accuracy: float
    temperature: float
    parameters: float
    multiply_adds: float
    """Of one cell."""
    fit_seconds: float
    energy_wh: float | None = None
    """Left out of the file where no energy counter could be read."""
    test: CandidateScore

    @model_serializer(mode="wrap")
    def _without_missing_energy(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name != "energy_wh" or value is not None}


class SeedMetrics(Report):
    """How the balanced accuracy varies with the seed."""

    scheme: str = Field(alias="split")
    mean: float
    deviation: float | None
    """Sample standard deviation; None for a single seed."""
    values: list[float]


class Metrics(Report):
    """The content of `metrics.json`."""

    task: str
    classes: list[str]
    simulated: bool
    """Whether the model was trained on simulated cells."""
    confounded: dict[str, str]
    """Class → why it has no grouped split."""
    schemes: dict[str, SchemeMetrics] = Field(alias="splits")
    """Scheme → metrics; the scheme to rely on first."""
    chosen: str
    """The candidate that is served."""
    candidates: dict[str, CandidateMetrics]
    seeds: SeedMetrics
    gap: float | None
    """Balanced accuracy on the random split less that on the grouped one; None where there is no grouped split."""
    audit: AuditSummary
