"""The gate: whether a version may become the champion, and why.

A champion reproduces its test tensors, is calibrated, does better than chance, and does not rest on a shortcut of the
acquisition, or only on one that a person has signed off. Where there is a champion already, the new version is also
better on the same cells, which neither has seen, and no acquisition group loses much accuracy.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fatescope.config import Gate
from pipelines.evaluation import bootstrap
from pipelines.evaluation.audit_report import AuditSummary
from pipelines.evaluation.metrics import balanced_accuracy, confusion_counts
from pipelines.evaluation.metrics_report import Metrics, SchemeMetrics
from pipelines.registry.paired import PairedPredictions
from pipelines.registry.records import Criterion


@dataclass(frozen=True)
class Champion:
    """The version that the new one is compared with, and the predictions of both."""

    version: str
    predictions: PairedPredictions


@dataclass(frozen=True)
class NoComparison:
    """Why the new version was not compared with a champion."""

    reason: str
    blocks: bool
    """Whether there is a champion, which must not be replaced without a comparison."""


def decide(
    task: str, metrics: Metrics, damage: str | None, champion: Champion | NoComparison, params: Gate
) -> dict[str, Criterion]:
    """Return the criteria for a version of `task`; `damage` is why its test tensors do not reproduce, if so."""
    first = next(iter(metrics.schemes.values()))
    reproduced = "the test tensors give the expected logits"
    criteria = {
        "reproduces": Criterion(holds=damage is None, detail=damage or reproduced),
        "audit": audit(task, metrics.audit, params),
        "informative": informative(first, len(metrics.classes)),
        "calibration": calibration(first, params),
    }
    if isinstance(champion, Champion):
        criteria |= {"better": better(champion, params), "groups": groups(champion.predictions, params)}
    elif champion.blocks:
        criteria["better"] = Criterion(holds=False, detail=champion.reason)
    return criteria


def audit(task: str, summary: AuditSummary, params: Gate) -> Criterion:
    """Hold where acquisition alone does not tell the classes apart, or where a person has signed that off."""
    verdict = summary.verdict
    if verdict in ("clean", "suspect"):
        return Criterion(holds=True, detail=verdict, verdict=verdict)
    accused = [" / ".join(pair.classes) for pair in summary.pairs if pair.verdict == "shortcut"]
    reason = f"acquisition alone tells apart {', '.join(accused)}" if accused else "no pair of classes was audited"
    signed = params.signed_off.get(task)
    if signed is None:
        action = "to accept this, enter a name and a reason under gate.signed_off"
        return Criterion(holds=False, detail=f"{verdict}: {reason}; {action}", verdict=verdict)
    detail = f"{verdict}: {reason}; signed off by {signed.name}: {signed.reason}"
    return Criterion(holds=True, detail=detail, verdict=verdict)


def informative(metrics: SchemeMetrics, classes: int) -> Criterion:
    """Hold where even the lower end of the balanced accuracy is above chance."""
    low, chance = metrics.intervals["balanced_accuracy"][0], 1 / classes
    detail = f"balanced accuracy {metrics.balanced_accuracy:.3f}, at least {low:.3f}; chance is {chance:.3f}"
    return Criterion(holds=low > chance, detail=detail, value=low, limit=chance)


def calibration(metrics: SchemeMetrics, params: Gate) -> Criterion:
    """Hold where confidence and accuracy agree on the test cells."""
    error, limit = metrics.calibration.after.ece, params.max_calibration_error
    detail = f"expected calibration error {error:.3f}, at most {limit:.3f} allowed"
    return Criterion(holds=error <= limit, detail=detail, value=error, limit=limit)


def better(champion: Champion, params: Gate) -> Criterion:
    """Hold where the new version is better by a paired bootstrap, or not worse and cheaper where that is accepted."""
    paired = champion.predictions
    units = bootstrap.choose_units(paired.groups, paired.targets.astype(str))
    weights = bootstrap.resample(units.names, paired.targets.astype(str), params.repeats, params.seed)
    before, after = (
        balanced_accuracy(confusion_counts(paired.targets, p.argmax(1), weights, len(paired.classes)))
        for p in (paired.before, paired.after)
    )
    gain = after - before
    low, high = np.quantile(gain[1:], (1 - params.confidence, params.confidence))
    cheaper = params.accept == "not_worse_and_cheaper" and paired.cost_after < paired.cost_before
    limit = -params.margin if cheaper else 0.0
    # Strictly above, so that a model is not better than itself.
    holds = bool(low >= limit if cheaper else low > limit)
    rough = "; with so few groups this is rough" if units.kind == "cells" else ""
    needed = f"at least {limit:+.3f}" if cheaper else f"above {limit:+.3f}"
    detail = (
        f"balanced accuracy {after[0]:.3f} against {before[0]:.3f} of version {champion.version} on the same "
        f"{len(paired.targets)} cells: {gain[0]:+.3f} ({low:+.3f} to {high:+.3f}, each end one-sided at "
        f"{params.confidence:.0%}, resampling {units.kind}{rough}); the lower end must be {needed}"
        + (f", at {paired.cost_after / paired.cost_before:.2f} of the cost" if cheaper else "")
    )
    return Criterion(holds=holds, detail=detail, value=float(gain[0]), low=float(low), high=float(high), limit=limit)


def groups(paired: PairedPredictions, params: Gate) -> Criterion:
    """Hold where no acquisition group that is large enough loses more accuracy than allowed."""
    table = pd.DataFrame(
        {
            "group": paired.groups,
            "before": paired.before.argmax(1) == paired.targets,
            "after": paired.after.argmax(1) == paired.targets,
        }
    )
    means = table.groupby("group").agg(before=("before", "mean"), after=("after", "mean"), cells=("after", "size"))
    enough = means[means["cells"] >= params.min_group_cells]
    if enough.empty:
        return Criterion(holds=True, detail=f"no group has {params.min_group_cells} cells to compare")
    losses = (enough["before"] - enough["after"]).to_numpy(float)
    place = int(losses.argmax())
    worst, loss = str(enough.index[place]), float(losses[place])
    before, after, count = (float(enough[name].to_numpy()[place]) for name in ("before", "after", "cells"))
    detail = (
        f"the group that loses most is {worst}: accuracy {before:.3f} before, {after:.3f} now, on {count:.0f} cells; "
        f"a loss of {params.max_group_fall:.3f} is allowed"
    )
    return Criterion(holds=loss <= params.max_group_fall, detail=detail, value=loss, group=worst)
