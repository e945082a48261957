"""The gate: whether a version may become the champion, and why.

A champion reproduces its test tensors, is calibrated, was tested on acquisition groups that it was not fitted on, does
better than chance, acquisition alone and simple features of the cell, and does not rest on a shortcut of the
acquisition. Where there is a champion already, the new version is also better on the same cells, which neither has
seen, and no acquisition group loses much accuracy. Some of these a person may lift, by name and with a reason.
"""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from fatescope import plural
from fatescope.config import Gate, Signable, Signature
from pipelines.evaluation.audit_report import AuditSummary
from pipelines.evaluation.metrics_report import Metrics, SchemeMetrics
from pipelines.registry import looks
from pipelines.registry.difference import measure_difference
from pipelines.registry.paired import PairedPredictions
from pipelines.registry.records import Criterion

BASELINES = {"acquisition": "descriptions of the acquisition alone", "cell_figures": "simple features of the cell"}
"""Name in the metrics → what it is."""
FIRST_GROUPS = 2
"""Test groups of each class that a first champion needs, which only has to be above chance."""


@dataclass(frozen=True)
class Champion:
    """The version that the new one is compared with, and the predictions of both."""

    version: str
    predictions: PairedPredictions
    earlier: tuple[frozenset[str] | None, ...] = ()
    """Digests of the test groups of each earlier comparison of the task; None where they were not kept."""


@dataclass(frozen=True)
class NoComparison:
    """Why the new version was not compared with a champion."""

    reason: str
    version: str | None
    """The champion, which must not be replaced without a comparison; None where there is none."""


def decide(
    task: str, metrics: Metrics, damage: str | None, champion: Champion | NoComparison, params: Gate
) -> dict[str, Criterion]:
    """Return the criteria for a version of `task`; `damage` is why its test tensors do not reproduce, if so."""
    scheme, first = next(iter(metrics.schemes.items()))
    reproduced = "the test tensors give the expected logits"
    criteria = {
        "reproduces": Criterion(holds=damage is None, detail=damage or reproduced),
        "audit": audit(metrics.audit),
        "grouped": grouped(scheme),
        "informative": informative(first, len(metrics.classes)),
        "baselines": baselines(first),
    }
    # Without groups of its own, a first champion has `grouped` against it already: one fact takes one signature.
    if scheme == "grouped" or isinstance(champion, Champion) or champion.version is not None:
        criteria["replicates"] = replicates(first, champion, params)
    criteria["calibration"] = calibration(first, params)
    if isinstance(champion, Champion):
        criteria |= {"better": better(champion, params), "groups": groups(champion.predictions, params)}
    elif champion.version is not None:
        criteria["comparable"] = Criterion(holds=False, detail=champion.reason)
    return {name: lift(name, criterion, params.signed_off.get(task)) for name, criterion in criteria.items()}


def lift(name: str, criterion: Criterion, signature: Signature | None) -> Criterion:
    """Return the criterion of that name as it holds once a person may have signed it off."""
    if criterion.holds or name not in get_args(Signable):
        return criterion
    if signature is not None and name in signature.criteria:
        detail = f"{criterion.detail}; signed off by {signature.name}: {signature.reason}"
        return criterion.model_copy(update={"holds": True, "detail": detail})
    entry = "a name and a reason" + ("" if name == "audit" else f", with criteria: [{name}],")
    detail = f"{criterion.detail}; to accept this, enter {entry} under gate.signed_off"
    return criterion.model_copy(update={"detail": detail})


def audit(summary: AuditSummary) -> Criterion:
    """Hold where acquisition alone does not tell the classes apart."""
    verdict = summary.verdict
    if verdict in ("clean", "suspect"):
        return Criterion(holds=True, detail=verdict, verdict=verdict)
    accused = [" / ".join(pair.classes) for pair in summary.pairs if pair.verdict == "shortcut"]
    reason = f"acquisition alone tells apart {', '.join(accused)}" if accused else "no pair of classes was audited"
    return Criterion(holds=False, detail=f"{verdict}: {reason}", verdict=verdict)


def grouped(scheme: str) -> Criterion:
    """Hold where the version was tested on acquisition groups that it was not fitted on."""
    if scheme == "grouped":
        return Criterion(holds=True, detail="tested on acquisition groups that it was not fitted on")
    reason = "some class has too few acquisition groups to test on others than those that the version was fitted on"
    return Criterion(holds=False, detail=reason)


def informative(metrics: SchemeMetrics, classes: int) -> Criterion:
    """Hold where even the lower bound of the balanced accuracy is above chance."""
    bound, chance = metrics.at_least(), 1 / classes
    if bound is None:
        return Criterion(holds=False, detail=f"balanced accuracy {metrics.describe_interval('balanced_accuracy')}")
    alone = "" if bound.units == "groups" else ", for cells of these test groups"
    detail = (
        f"balanced accuracy {metrics.balanced_accuracy:.3f}, at least {bound.value:.3f}{alone}; chance is {chance:.3f}"
    )
    return Criterion(holds=bound.value > chance, detail=detail, value=bound.value, limit=chance)


def replicates(first: SchemeMetrics, champion: Champion | NoComparison, params: Gate) -> Criterion:
    """Hold where each class has enough test groups for what the decision rests on.

    Two for a first champion, which only needs to be above chance, and `params.min_groups` for a comparison.
    """
    if isinstance(champion, Champion):
        units = measure_difference(champion.predictions).units
        fewest, needed, scarce = units.fewest, params.min_groups, f"class {units.scarce}"
    else:
        bound, needed, scarce = first.at_least(), FIRST_GROUPS, "some class"
        fewest = 2 if bound is not None and bound.units == "groups" else 1
    if fewest >= needed:
        return Criterion(holds=True, detail=f"each class has {needed} or more test groups", limit=needed)
    groups = plural.count(fewest, "test group")
    detail = f"{scarce} has {groups}, and {needed} are needed to say how other groups would do"
    return Criterion(holds=False, detail=detail, value=fewest, limit=needed)


def baselines(metrics: SchemeMetrics) -> Criterion:
    """Hold where the version is above acquisition alone and above simple features of the cell."""
    if not set(BASELINES) <= set(metrics.baselines):
        return Criterion(holds=False, detail="the audit does not say what acquisition and simple features reach")
    highest = max(metrics.baselines[name] for name in BASELINES)
    reached = " and ".join(f"{text} reach {metrics.baselines[name]:.3f}" for name, text in BASELINES.items())
    detail = f"balanced accuracy {metrics.balanced_accuracy:.3f}; {reached}"
    value = metrics.balanced_accuracy
    return Criterion(holds=value > highest, detail=detail, value=value, limit=highest)


def calibration(metrics: SchemeMetrics, params: Gate) -> Criterion:
    """Hold where confidence and accuracy agree on the test cells."""
    after, limit = metrics.calibration.after, params.max_calibration_error
    # Few test cells would accuse a perfectly calibrated model, if what chance adds counted.
    error = after.ece if after.debiased is None else after.debiased
    detail = f"calibration error {error:.3f}, at most {limit:.3f} allowed"
    return Criterion(holds=error <= limit, detail=detail, value=error, limit=limit)


def better(champion: Champion, params: Gate) -> Criterion:
    """Hold where the new version is better on the same cells, or not worse and cheaper where that is accepted.

    Tested by acquisition group, at the part of the level that this look at them gets.
    """
    paired, names = champion.predictions, np.unique(champion.predictions.groups).tolist()
    difference, look = measure_difference(paired), looks.count_look(names, champion.earlier)
    level = looks.spend(1 - params.confidence, look)
    low, high = difference.ends(level)
    cheaper = params.accept == "not_worse_and_cheaper" and paired.cost_after < paired.cost_before
    limit = -params.margin if cheaper else 0.0
    # Strictly above, so that a model is not better than itself.
    holds = bool(low >= limit if cheaper else low > limit)
    kind = "group" if difference.units.kind == "groups" else "cell, which says nothing of other groups"
    needed = f"at least {limit:+.3f}" if cheaper else f"above {limit:+.3f}"
    cells = plural.count(len(paired.targets), "cell")
    detail = (
        f"balanced accuracy {difference.after:.3f} against {difference.before:.3f} of version {champion.version} on "
        f"the same {cells} of {plural.count(len(names), 'acquisition group')}: {difference.gain:+.3f} ({low:+.3f} "
        f"to {high:+.3f}, each end one-sided at {1 - level:.2%}, by {kind}); the lower end must be {needed}"
        + (f", at {paired.cost_after / paired.cost_before:.2f} of the cost" if cheaper else "")
        + f"; look {look} at these test groups, which may spend {level:.2%} of {1 - params.confidence:.0%}"
    )
    return Criterion(
        holds=holds,
        detail=detail,
        value=difference.gain,
        low=low,
        high=high,
        limit=limit,
        look=look,
        groups=[looks.digest(name) for name in names],
    )


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
    before, after, cells = (float(enough[name].to_numpy()[place]) for name in ("before", "after", "cells"))
    detail = (
        f"the group that loses most is {worst}: accuracy {before:.3f} before, {after:.3f} now, on "
        f"{plural.count(round(cells), 'cell')}; a loss of {params.max_group_fall:.3f} is allowed"
    )
    return Criterion(holds=loss <= params.max_group_fall, detail=detail, value=loss, group=worst)
