"""`audit.json`: how well acquisition alone predicts the class."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from pipelines.evaluation.report import Report

Stage = Literal["raw", "normalised"]
STAGES: tuple[Stage, ...] = ("raw", "normalised")
"""The pixels of the export, and what the network's normalisation leaves of them."""
PairVerdict = Literal["clean", "suspect", "shortcut"]
VERDICTS: tuple[PairVerdict, ...] = ("clean", "suspect", "shortcut")
"""Verdicts on a pair of classes, the worst last."""


class BalancedAccuracy(Report):
    """A balanced accuracy with its 95 % interval."""

    value: float
    low: float
    high: float
    chance: float
    """What guessing reaches: one over the number of classes."""


class Evidence(Report):
    """How well one model on one description of the acquisition separates two classes."""

    description: str
    """A name in `confounding.DESCRIPTIONS`, or in `instrument.DESCRIPTIONS` where `model` is `groups`; of another
    channel than the first, the channel stands behind it."""
    model: str
    """A name in `confounding.MODELS`, or `groups`: a discriminant of acquisition groups."""
    value: float
    """Area under the ROC curve, with its 95 % interval."""
    low: float
    high: float
    lower_bound: float | None = None
    """What the area is at least, with 95 % confidence; the verdict is by this. Earlier reports went by `low`."""
    verdict: PairVerdict

    @property
    def at_least(self) -> float:
        """Return what the verdict is by."""
        return self.low if self.lower_bound is None else self.lower_bound

    @model_serializer(mode="wrap")
    def _without_missing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name != "lower_bound" or value is not None}


class GroupEvidence(Evidence):
    """How well acquisition groups of two classes are told apart by what they show of the instrument.

    `value` and its interval are the area under the ROC curve of groups, each judged by the others.
    """

    groups: int
    """Groups of the class that has fewer."""
    cells: float
    """Area under the ROC curve of single cells, by the same discriminant."""
    p_value: float | None
    """Share of random labels of the groups that separate as well; none where the verdict is clean without it."""
    smallest_p: float
    """Smallest p-value that so many groups allow."""
    limit: float
    """What a p-value must not exceed to accuse a pair, so that all pairs and descriptions together rarely do."""


class PairAudit(Report):
    """The audit of two classes."""

    classes: list[str]
    scheme: str = Field(alias="split")
    """The scheme of the folds on which the pair was judged."""
    confounded: bool
    """Whether a class has too few groups for folds by group."""
    raw: Evidence
    """The strongest evidence on the raw pixels."""
    normalised: Evidence
    """The strongest evidence on the normalised pixels."""
    by_group: dict[Stage, list[GroupEvidence]] = Field(default_factory=dict)
    """Stage → what acquisition groups show; left out of the file where a class has too few of its own."""
    channels: dict[str, float] = Field(default_factory=dict)
    """Channel → area under the ROC curve of simple features of the cell in that channel alone: by which channel the
    pair is told apart; left out of the file where the model sees one channel."""
    verdict: PairVerdict
    """On the raw pixels."""
    verdict_normalised: PairVerdict
    """On what the network sees."""

    @model_serializer(mode="wrap")
    def _without_missing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name not in ("by_group", "channels") or value}


class PairSummary(Report):
    """The verdicts of the audit on two classes."""

    classes: list[str]
    verdict: PairVerdict
    verdict_normalised: PairVerdict
    confounded: bool


class AuditSummary(Report):
    """The verdicts of the audit on the classes of one task."""

    verdict: Literal["clean", "suspect", "shortcut", "unknown"]
    """The worst verdict on any pair; `unknown` where no pair was audited."""
    pairs: list[PairSummary]


class TaskBaselines(Report):
    """What a network must beat on the classes of one task."""

    acquisition: BalancedAccuracy
    """The best model that does not look at the cell."""
    cell_figures: BalancedAccuracy
    """A model on simple features of the cell."""


class GroupSeparability(Report):
    """How well the acquisition groups of one class can be told from each other: the batch effect."""

    groups: int
    border: BalancedAccuracy
    """By the border of the crop."""
    cell: BalancedAccuracy
    """By simple features of the cell."""


class Confounding(Report):
    """Which classes share acquisition groups."""

    cramers_v: dict[str, float]
    """Fact of the path → Cramér's V between it and the class."""
    cells: dict[str, dict[str, int]]
    """Class → group → cells."""


class FactAudit(Report):
    """How well a fact of the acquisition, which files of the instrument say, predicts the class."""

    kind: Literal["number", "category"]
    known: float
    """Share of the cells of which it is known."""
    distinct: int
    """Different values."""
    cramers_v: float | None = None
    """Of a category with the class, 0 to 1."""
    accuracy: dict[str, BalancedAccuracy]
    """Scheme → gradient boosting on the fact alone; empty where all cells have one value."""


class Thresholds(Report):
    """Areas under the curve, from `params.yaml`, that a lower bound must reach for a verdict."""

    suspect: float
    shortcut: float


Acquisition = dict[Stage, dict[str, dict[str, dict[str, BalancedAccuracy]]]]


class AuditReport(Report):
    """The content of `audit.json`."""

    cells: int
    """Cells that were audited."""
    thresholds: Thresholds
    resampled: dict[str, str]
    """Class → the unit of intervals: `groups`, or `cells` where it has too few groups."""
    acquisition: Acquisition
    """Stage → description → scheme → model → balanced accuracy on all classes."""
    pairs: list[PairAudit]
    """Every pair of classes."""
    baseline: dict[str, BalancedAccuracy]
    """Scheme → a model on simple features of the cell, on all classes."""
    tasks: dict[str, dict[str, TaskBaselines]]
    """Task → scheme → what a network must beat."""
    groups: dict[str, GroupSeparability]
    """Class → how well its groups can be told from each other; without classes of a single large group."""
    confounding: Confounding
    facts: dict[str, FactAudit] = Field(default_factory=dict)
    """Fact of the acquisition → what it alone predicts; left out of the file where files say nothing."""

    @model_serializer(mode="wrap")
    def _without_missing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name != "facts" or value}

    def best(self, stage: Stage, description: str, scheme: str) -> BalancedAccuracy | None:
        """Return the balanced accuracy of the better model on a description, if it was tried under that scheme."""
        models = self.acquisition[stage].get(description, {}).get(scheme, {})
        return max(models.values(), key=lambda accuracy: accuracy.value, default=None)

    def summarise(self, classes: list[str]) -> AuditSummary:
        """Return the verdicts on `classes`."""
        pairs = [
            PairSummary(
                classes=pair.classes,
                verdict=pair.verdict,
                verdict_normalised=pair.verdict_normalised,
                confounded=pair.confounded,
            )
            for pair in self.pairs
            if set(pair.classes) <= set(classes)
        ]
        worst = max((pair.verdict for pair in pairs), key=VERDICTS.index, default=None)
        return AuditSummary(verdict=worst or "unknown", pairs=pairs)
