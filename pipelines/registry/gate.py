"""Whether a version may serve: each criterion with its figures, and the verdict.

`champion` may only become what reproduces, is calibrated, rests on no shortcut of acquisition (or on one that a person
has signed off), knows more than chance, and, where there is a champion already, is better than it on the same cells
that neither has seen, with no acquisition group falling by much.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.config import Gate
from pipelines.evaluation import bootstrap
from pipelines.evaluation.metrics import balanced_accuracy, confusions

Floats = npt.NDArray[np.floating]
Criterion = dict[str, Any]
"""`holds`, `detail` for people, and the figures that decided."""


@dataclass(frozen=True)
class Both:
    """What the champion and the challenger say of the same cells."""

    champion: str
    """The champion's version."""
    targets: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_]
    before: Floats
    """(n, K) the champion's probabilities."""
    after: Floats
    """(n, K) the challenger's."""
    cost_before: float
    """Multiply-adds a cell of the champion."""
    cost_after: float
    """Multiply-adds a cell of the challenger."""


def decide(
    task: str, metrics: dict[str, Any], damage: str | None, both: Both | str | None, params: Gate
) -> dict[str, Criterion]:
    """Return each criterion for a version of `task`.

    `metrics` is the content of `metrics.json`, `damage` why its test tensors do not reproduce, `both` the comparison
    with the champion, or why there is one but no comparison; None where there is no champion for this question.
    """
    figures = next(iter(metrics["splits"].values()))
    criteria = {
        "reproduces": _criterion(damage is None, damage or "the test tensors give the logits that they must give"),
        "audit": audit(task, metrics["audit"], params),
        "informative": informative(figures, len(metrics["classes"])),
        "calibration": calibration(figures, params),
    }
    if both is None:
        return criteria
    if isinstance(both, str):
        return criteria | {"better": _criterion(False, both)}
    return criteria | {"better": better(both, params), "groups": groups(both, params)}


def audit(task: str, audited: dict[str, Any], params: Gate) -> Criterion:
    """Hold where acquisition alone does not tell the classes apart, or where a person has signed that off."""
    verdict = audited["verdict"]
    accused = [" / ".join(each["classes"]) for each in audited["pairs"] if each["verdict"] == "shortcut"]
    signed = params.signed_off.get(task)
    if verdict in ("clean", "suspect"):
        return _criterion(True, verdict, verdict=verdict)
    detail = (
        f"{verdict}: acquisition alone tells {', '.join(accused)}" if accused else f"{verdict}: nothing was audited"
    )
    if signed is None:
        return _criterion(False, f"{detail}; who answers for it signs in gate.signed_off", verdict=verdict)
    return _criterion(True, f"{detail}; signed off by {signed.name}: {signed.reason}", verdict=verdict)


def informative(figures: dict[str, Any], classes: int) -> Criterion:
    """Hold where even the lower end of the balanced accuracy is above chance."""
    low, chance = figures["intervals"]["balanced_accuracy"][0], 1 / classes
    detail = f"balanced accuracy {figures['balanced_accuracy']:.3f}, at least {low:.3f}; chance is {chance:.3f}"
    return _criterion(low > chance, detail, value=low, limit=chance)


def calibration(figures: dict[str, Any], params: Gate) -> Criterion:
    """Hold where confidence and accuracy agree on the test cells."""
    error = figures["calibration"]["after"]["ece"]
    detail = f"calibration error {error:.3f}; at most {params.max_calibration_error:.3f}"
    return _criterion(error <= params.max_calibration_error, detail, value=error, limit=params.max_calibration_error)


def better(both: Both, params: Gate) -> Criterion:
    """Hold where the challenger is better by a paired bootstrap, or not worse and cheaper where that is asked for."""
    units = bootstrap.units_of(both.groups, both.targets.astype(str))
    weights = bootstrap.resample(units.names, both.targets.astype(str), params.repeats, params.seed)
    size = both.before.shape[1]
    reached = [
        balanced_accuracy(confusions(both.targets, each.argmax(1), weights, size)) for each in (both.before, both.after)
    ]
    gain = reached[1] - reached[0]
    low, high = np.quantile(gain[1:], (1 - params.confidence, params.confidence))
    cheaper = params.accept == "not_worse_and_cheaper" and both.cost_after < both.cost_before
    limit = -params.margin if cheaper else 0.0
    # Strictly, so that the same model twice is not better than itself.
    holds = bool(low >= limit if cheaper else low > limit)
    detail = (
        f"balanced accuracy {reached[1][0]:.3f} against {reached[0][0]:.3f} of version {both.champion} on the same "
        f"{len(both.targets)} cells: {gain[0]:+.3f} ({low:+.3f} to {high:+.3f}, {params.confidence:.0%} a side, "
        f"by drawing {units.kind}{', which is rough' if units.kind == 'cells' else ''}); "
        f"{'no worse than' if cheaper else 'more than'} {limit:+.3f} is asked for"
        + (f", at {both.cost_after / both.cost_before:.2f} of the cost" if cheaper else "")
    )
    return _criterion(holds, detail, value=float(gain[0]), low=float(low), high=float(high), limit=limit)


def groups(both: Both, params: Gate) -> Criterion:
    """Hold where no acquisition group of enough cells is called right less often by more than the stated amount."""
    table = pd.DataFrame(
        {
            "group": both.groups,
            "before": both.before.argmax(1) == both.targets,
            "after": both.after.argmax(1) == both.targets,
        }
    )
    means = table.groupby("group").agg(before=("before", "mean"), after=("after", "mean"), cells=("after", "size"))
    enough = means[means["cells"] >= params.min_group_cells]
    if enough.empty:
        return _criterion(True, f"no group has {params.min_group_cells} cells to compare")
    falls = (enough["before"] - enough["after"]).to_numpy(float)
    place = int(falls.argmax())
    worst, fall = str(enough.index[place]), float(falls[place])
    before, after, count = (float(enough[name].to_numpy()[place]) for name in ("before", "after", "cells"))
    detail = (
        f"{worst} changes most for the worse: {before:.3f} to {after:.3f} of {count:.0f} cells; "
        f"a fall of {params.max_group_fall:.3f} is allowed"
    )
    return _criterion(fall <= params.max_group_fall, detail, value=fall, group=worst)


def _criterion(holds: bool, detail: str, **figures: object) -> Criterion:
    return {"holds": holds, "detail": detail, **figures}
