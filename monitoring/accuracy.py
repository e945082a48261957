"""How right a model is now: estimated of the newest cells without labels, and tested by the labels that there are.

Without labels, balanced accuracy is expected from calibrated probabilities (`fatescope.inference.accuracy`), which
tells nothing where cells are unlike those of the calibration: the estimate is then left out, with the reason. Labels of
drawn cells (`fatescope.inference.label_queue`) need no such assumption. They say how right the model was on the newest
batch that has enough of them, and whether it is less right than promised, with a chance of a false alarm that does not
grow with the number of looks (`fatescope.inference.evidence`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t

from fatescope import plural
from fatescope.inference import accuracy, label_queue
from fatescope.inference.accuracy import Error, Estimate
from fatescope.inference.evidence import LEVEL, evidence
from fatescope.inference.labelling import MIN_LABELS, Labelled
from fatescope.inference.labels import read_labels
from fatescope.inference.reference import ACCURACY
from fatescope.inference.uncertainty import UNLIKE
from monitoring.findings import Report

MIN_CELLS = 100
"""Cells that an estimate without labels needs."""
MAX_UNLIKE = 0.1
"""Share of cells unlike the training cells above which there is no estimate, whatever the reference has of them."""
FEW_CELLS, FEW_GROUPS, UNLIKE_CELLS, DRIFT, NO_PRIOR = "few_cells", "few_groups", "unlike", "drift", "no_prior"
"""Why there is no estimate."""
REASONS = (FEW_CELLS, FEW_GROUPS, UNLIKE_CELLS, DRIFT, NO_PRIOR)

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Unlabelled:
    """What is estimated of a window without labels, or why it cannot be."""

    estimate: Estimate | None
    reason: str = ""
    words: str = ""
    """The reason for a person."""


@dataclass(frozen=True)
class FromLabels:
    """What the labels of drawn cells say."""

    estimate: Labelled | None
    """Of the newest batch that has enough of them; None where none has."""
    combined: Estimate | None
    """The same, together with what is estimated of the batch without labels; None where they contradict each other, or
    cells are unlike those of the calibration."""
    labels: int
    """That count, of all batches of the version."""
    waiting: int
    """Cells of the newest batch without a label."""
    disputed: int
    """Cells of all batches of the version on whose label people disagree."""
    evidence: float
    """Logarithm of the evidence for less accuracy than promised, divided by that of an alarm: from 1 on, alarm."""


@dataclass(frozen=True)
class AccuracyWatch:
    """What is known of the accuracy of one version before it is used."""

    classes: list[str]
    prior: Floats | None
    error: Error | None
    """How far estimates are off from run to run; None where too few groups tell it."""
    floor: float | None
    """Balanced accuracy that is promised; None where too few groups tell it."""

    @classmethod
    def of(cls, reference: pd.DataFrame, prior: Sequence[float] | None, floor: float | None = None) -> Self:
        """Return what the reference of a version tells; `prior` are the class shares that its probabilities assume.

        Without a `floor`, that which is promised is the lower end of the one-sided 95 % interval of the balanced
        accuracy on groups that the model was not fitted on.
        """
        classes = [name.removeprefix("p_") for name in reference.columns if name.startswith("p_")]
        unseen = reference.loc[~reference["seen"].to_numpy(bool)] if "seen" in reference else reference
        if "label" not in unseen or prior is None:
            return cls(classes, None, None, floor)
        probabilities = unseen[[f"p_{name}" for name in classes]].to_numpy(float)
        targets = pd.Categorical(unseen["label"], classes).codes.astype(np.int64)
        groups = unseen["group"].to_numpy(str)
        known = reference.attrs.get(ACCURACY)
        error = Error(**known) if known else accuracy.learn_error(probabilities, targets, groups, np.array(prior))
        promised = _lower_bound(probabilities.argmax(1) == targets, targets, groups, len(classes))
        return cls(classes, np.array(prior), error, promised if floor is None else floor)

    def estimate(self, window: pd.DataFrame, report: Report | None) -> Unlabelled:
        """Estimate the balanced accuracy of a window; `report` is what of it differs from the reference."""
        like = window.loc[window["verdict"] != UNLIKE] if len(window) else window
        share = 1 - len(like) / max(len(window), 1)
        if report is None or len(like) < MIN_CELLS:
            cells = plural.count(len(like), "cell")
            return Unlabelled(None, FEW_CELLS, f"{cells} like the training cells; {MIN_CELLS} are needed")
        if self.prior is None:
            return Unlabelled(None, NO_PRIOR, "the service does not say which mixture its probabilities assume")
        if self.error is None:
            few = f"fewer than {accuracy.MIN_GROUPS} acquisition groups of some class tell how far it would be off"
            return Unlabelled(None, FEW_GROUPS, few)
        if share > MAX_UNLIKE:
            return Unlabelled(None, UNLIKE_CELLS, f"{share:.0%} of the cells are unlike the training cells")
        if report.input_drift:
            names = ", ".join(finding.statistic for finding in report.input_drift[:3])
            return Unlabelled(None, DRIFT, f"the cells differ from those of the calibration ({names})")
        probabilities = like[[f"p_{name}" for name in self.classes]].to_numpy(float)
        return Unlabelled(accuracy.estimate(probabilities, self.prior, self.error))

    def from_labels(
        self, records: Path, feedback: Path, task: str, version: str, *, like: bool = False
    ) -> FromLabels | None:
        """Return what labels say of a version; None before cells were drawn.

        `like` says that cells are like those of the calibration, so that an estimate without labels may count too.
        """
        batches = label_queue.read_batches(records, task, version)
        if not batches:
            return None
        labels = read_labels(feedback, task)
        first = [batch.first(labels) for batch in batches]
        found = ((batch, batch.estimate(targets)) for batch, targets in zip(batches[::-1], first[::-1], strict=True))
        newest, estimate = next(((batch, each) for batch, each in found if each is not None), (batches[-1], None))
        combined = None
        if like and estimate is not None and self.error is not None:
            without = accuracy.conclude(newest.table, newest.variance, self.error)
            combined = accuracy.combine(estimate.as_estimate(), without)
        answers = [batch.answers(targets) for batch, targets in zip(batches, first, strict=True)]
        logarithm = 0.0 if self.floor is None else evidence(answers, len(self.classes), self.floor)
        return FromLabels(
            estimate,
            combined,
            sum(map(len, first)),
            len(batches[-1].waiting(labels)),
            sum(len(batch.disputed(labels)) for batch in batches),
            logarithm / -math.log(LEVEL),
        )


def describe(unlabelled: Unlabelled) -> str:
    """Return an estimate, or why there is none, as a sentence."""
    if unlabelled.estimate is None:
        return f"How right the model is on these cells cannot be estimated without labels: {unlabelled.words}."
    found = unlabelled.estimate
    return f"Estimated balanced accuracy, without labels: {found.value:.2f} ({found.low:.2f} to {found.high:.2f})."


def describe_labels(labelled: FromLabels | None, floor: float | None) -> str:
    """Return what labels say, as sentences."""
    if labelled is None:
        return "No cells were drawn for labels yet."
    found, sentences = labelled.estimate, list[str]()
    if found is None:
        labels = plural.count(labelled.labels, "label counts", "labels count")
        sentences.append(f"{labels}; {MIN_LABELS} of one batch are needed for an interval.")
    else:
        sentences.append(
            f"From {found.labels} labels of the newest batch that has enough: balanced accuracy {found.value:.2f} "
            f"({found.low:.2f} to {found.high:.2f})."
        )
    if (both := labelled.combined) is not None:
        sentences.append(f"With the estimate of these cells: {both.value:.2f} ({both.low:.2f} to {both.high:.2f}).")
    if labelled.waiting:
        sentences.append(f"{plural.count(labelled.waiting, 'cell waits', 'cells wait')} for a label.")
    if labelled.disputed:
        disputed = plural.count(labelled.disputed, "cell")
        sentences.append(f"Of {disputed} people say different things; what was said first counts.")
    if floor is not None:
        verdict = "it is less" if labelled.evidence >= 1 else "nothing says that it is less"
        sentences.append(
            f"Promised is {floor:.2f}; {verdict} (evidence {labelled.evidence:.2f} of that of an alarm, "
            f"{plural.count(labelled.labels, 'label')})."
        )
    return " ".join(sentences)


def _lower_bound(
    right: npt.NDArray[np.bool_], targets: npt.NDArray[np.int64], groups: npt.NDArray[np.str_], size: int
) -> float | None:
    """Return the lower end of the one-sided 95 % interval of the balanced accuracy, by acquisition group."""
    recalls = [
        np.array([right[(targets == k) & (groups == name)].mean() for name in np.unique(groups[targets == k])])
        for k in range(size)
    ]
    if min(map(len, recalls)) < accuracy.MIN_GROUPS:
        return None
    variance = sum(float(values.var(ddof=1)) / len(values) for values in recalls) / size**2
    freedom = sum(len(values) - 1 for values in recalls)
    mean = float(np.mean([values.mean() for values in recalls]))
    return max(mean - float(t.ppf(0.95, freedom)) * math.sqrt(variance), 0.0)
