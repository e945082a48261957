"""The gate: whether a version may become the champion, and why.

A champion reproduces its test tensors, is calibrated, does better than chance, and does not rest on a shortcut of the
acquisition, or only on one that a person has signed off. Where there is a champion already, the new version is also
better on the same cells, which neither has seen, and no acquisition group loses much accuracy.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fatescope.config import Gate, Signature
from pipelines.evaluation.audit_report import AuditSummary
from pipelines.evaluation.intervals import Units
from pipelines.evaluation.metrics_report import Metrics, SchemeMetrics
from pipelines.registry import looks
from pipelines.registry.difference import measure_difference
from pipelines.registry.paired import PairedPredictions
from pipelines.registry.records import Criterion


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
        "informative": informative(first, len(metrics.classes), params.signed_off.get(task)),
        "calibration": calibration(first, params),
    }
    if isinstance(champion, Champion):
        criteria |= {
            "better": better(champion, params, params.signed_off.get(task)),
            "groups": groups(champion.predictions, params),
        }
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


def informative(metrics: SchemeMetrics, classes: int, signature: Signature | None = None) -> Criterion:
    """Hold where even the lower bound of the balanced accuracy is above chance.

    From two groups of each class on the bound is one of groups; with one it is one of cells, which a person must sign.
    """
    bound, chance = metrics.at_least(), 1 / classes
    if bound is None:
        return Criterion(holds=False, detail=f"balanced accuracy {metrics.describe_interval('balanced_accuracy')}")
    alone = bound.units == "cells"
    detail = (
        f"balanced accuracy {metrics.balanced_accuracy:.3f}, at least {bound.value:.3f}; chance is {chance:.3f}"
        + (
            f"; some class has a single test group, so that this holds for no other; {_signed(signature)}"
            if alone
            else ""
        )
    )
    holds = bound.value > chance and (not alone or signature is not None)
    return Criterion(holds=holds, detail=detail, value=bound.value, limit=chance)


def calibration(metrics: SchemeMetrics, params: Gate) -> Criterion:
    """Hold where confidence and accuracy agree on the test cells."""
    error, limit = metrics.calibration.after.ece, params.max_calibration_error
    detail = f"expected calibration error {error:.3f}, at most {limit:.3f} allowed"
    return Criterion(holds=error <= limit, detail=detail, value=error, limit=limit)


def better(champion: Champion, params: Gate, signature: Signature | None = None) -> Criterion:
    """Hold where the new version is better on the same cells, or not worse and cheaper where that is accepted.

    Tested by acquisition group, at the part of the level that this look at them gets. With fewer groups of a class than
    `params.min_groups` a person must have signed as well.
    """
    paired, names = champion.predictions, np.unique(champion.predictions.groups).tolist()
    difference, look = measure_difference(paired), looks.count_look(names, champion.earlier)
    level = looks.spend(1 - params.confidence, look)
    low, high = difference.ends(level)
    cheaper = params.accept == "not_worse_and_cheaper" and paired.cost_after < paired.cost_before
    limit = -params.margin if cheaper else 0.0
    # Strictly above, so that a model is not better than itself.
    passes = bool(low >= limit if cheaper else low > limit)
    missing = few_groups(difference.units, params)
    kind = "group" if difference.units.kind == "groups" else "cell, which says nothing of other groups"
    needed = f"at least {limit:+.3f}" if cheaper else f"above {limit:+.3f}"
    detail = (
        f"balanced accuracy {difference.after:.3f} against {difference.before:.3f} of version {champion.version} on "
        f"the same {len(paired.targets)} cells of {len(names)} acquisition groups: {difference.gain:+.3f} ({low:+.3f} "
        f"to {high:+.3f}, each end one-sided at {1 - level:.2%}, by {kind}); the lower end must be {needed}"
        + (f", at {paired.cost_after / paired.cost_before:.2f} of the cost" if cheaper else "")
        + f"; look {look} at these test groups, which may spend {level:.2%} of {1 - params.confidence:.0%}"
        + (f"; {missing}; {_signed(signature)}" if missing else "")
    )
    return Criterion(
        holds=passes and (missing is None or signature is not None),
        detail=detail,
        value=difference.gain,
        low=low,
        high=high,
        limit=limit,
        look=look,
        groups=[looks.digest(name) for name in names],
    )


def few_groups(units: Units, params: Gate) -> str | None:
    """Return that some class has fewer groups than an unsigned decision needs, if so."""
    if units.fewest >= params.min_groups:
        return None
    noun = "group" if units.fewest == 1 else "groups"
    return f"{units.fewest} acquisition {noun} of class {units.scarce}, {params.min_groups} are needed"


def _signed(signature: Signature | None) -> str:
    """Return who signed and why, or how to."""
    if signature is None:
        return "record more, or enter a name and a reason under gate.signed_off to decide with these"
    return f"signed off by {signature.name}: {signature.reason}"


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
