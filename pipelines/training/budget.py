"""How many epochs fit into `train.minutes` on this machine, decided before the first fit."""

import logging
import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice, pairwise
from statistics import median

from fatescope import plural
from fatescope.config import Train
from fatescope.networks.network import Ensemble, Network
from pipelines.training import distributed
from pipelines.training.context import TrainingContext
from pipelines.training.ensemble import SAMPLE
from pipelines.training.examples import Examples, steps_per_epoch
from pipelines.training.pace import Clock
from pipelines.training.prediction import BATCH, predict
from pipelines.training.trainer import TrainingLoop, build_network

log = logging.getLogger(__name__)

WARM_UP, TIMED = 2, 5
"""Steps before the clock starts, and steps that are timed."""
LIMIT_S = 5.0
"""Seconds after which no further step is timed."""
PLANNED_SHARE = 0.9
"""Share of the budget that epochs are planned for; the rest is for steps slower than those that were timed."""
LEAST_SHARE = 0.5
"""Share of the epochs that is planned even where timed steps were slow: what kept the machine busy may soon be over."""


@dataclass(frozen=True)
class Speed:
    """What training takes on this machine."""

    step_s: float
    """One step."""
    cell_s: float
    """Validation, for one cell."""
    asked_s: float
    """A prediction of the finished model, which may average over several views, for one cell."""

    def fit_s(self, settings: Train, train: int, validation: int) -> float:
        """Return the seconds of a whole fit on so many training and validation cells."""
        steps = steps_per_epoch(train, settings.batch_size)
        return settings.epochs * (steps * self.step_s + validation * self.cell_s)


@dataclass(frozen=True)
class TrainingPlan:
    """The epochs of all fits of the stage, and the time that each may take."""

    settings: dict[str, list[Train]]
    """Candidate → the settings of its networks, with the epochs that the budget has room for."""
    epochs: int
    """Those epochs, the same for all networks but those that are taught, which take more."""
    slack: float
    """Time that a fit may take, as a multiple of what it takes at the speed that was measured.

    Below one, it takes fewer steps than planned (`Pace`) unless the machine becomes faster.
    """
    speeds: dict[str, Speed]
    """Settings (`_key`) → speed."""
    teacher: list[Train] = field(default_factory=list)
    """The settings of the networks that teach those with `distil`, with their epochs."""

    def seconds(self, settings: Train, examples: Examples) -> float:
        """Return the time that one fit may take; the times of all fits add up to the budget."""
        return self.slack * self.speeds[_key(settings)].fit_s(settings, len(examples.train), len(examples.validation))


def measure_speed(
    examples: Examples,
    classes: int,
    settings: Train,
    clock: Clock = time.monotonic,
    teacher: Network | Ensemble | None = None,
) -> Speed:
    """Time a few steps of a fit, and the validation of one batch, with a network that is thrown away.

    A `teacher` may be untrained too: it takes the same time.
    """
    with closing(TrainingLoop(examples, classes, settings, seed=0, teacher=teacher)) as loop:
        ends = [clock()]
        for batch in islice(loop.batches(), WARM_UP + TIMED):
            # A number, because a GPU works on after the call has returned.
            float(loop.step(batch))
            ends.append(clock())
            if distributed.broadcast_object(ends[-1] - ends[0] > LIMIT_S):
                break
    timed = ends[WARM_UP:] if len(ends) > WARM_UP + 1 else ends
    # Not their mean: one step may have waited for another program, and fits that turn out slower still end in time.
    step_s = median(end - start for start, end in pairwise(timed))
    cells = examples.train[:BATCH]

    def predict_s() -> float:
        start_s = clock()
        predict(loop.network, examples.pixels, cells)
        return (clock() - start_s) / len(cells)

    if loop.network.temperature.is_cuda:
        # Its first kernels are loaded, which says nothing about the next cells.
        predict(loop.network, examples.pixels, cells)
    cell_s = asked_s = predict_s()
    if settings.views != loop.network.views:
        loop.network.views = settings.views
        asked_s = predict_s()
    return distributed.broadcast_object(Speed(step_s, cell_s, asked_s))


def plan_training(
    context: TrainingContext,
    settings: dict[str, list[Train]],
    clock: Clock = time.monotonic,
    teacher: Sequence[Train] = (),
) -> TrainingPlan:
    """Return the plan in which all fits of the stage end within `train.minutes`.

    All networks get the same number of epochs, so that candidates and schemes stay comparable: those of `train.epochs`
    where they fit, else as many as do, but half of them at least. Where fewer fit, fits take fewer steps (`Pace`).
    Networks with `distil`, which those with the settings `teacher` teach, keep their multiple of that.
    """
    start_s, budget_s = clock(), context.params.train.minutes * 60
    examples = context.examples(context.schemes[0])
    classes, join = len(context.classes), context.params.ensemble.join
    members = {_key(member): member for candidate in (teacher, *settings.values()) for member in candidate}
    speeds = {
        key: measure_speed(
            examples, classes, member, clock, _untrained(teacher, examples, classes, join) if member.distil else None
        )
        for key, member in members.items()
    }
    left_s = distributed.broadcast_object(max(budget_s - (clock() - start_s), 1.0))
    fits_s, asking_s = _needed_s(context, settings, speeds, teacher)
    needed_s, epochs = fits_s + asking_s, context.params.train.epochs
    fitting = int(epochs * (PLANNED_SHARE * left_s - asking_s) / fits_s)
    planned = min(epochs, max(fitting, math.ceil(epochs * LEAST_SHARE)))
    if planned < epochs:
        log.warning(
            "train.minutes: all fits with %s would take about %.1f minutes on this machine, and the limit is %g; "
            "they get %s%s. Raise train.minutes for a better model",
            *(plural.count(epochs, "epoch"), needed_s / 60, context.params.train.minutes),
            plural.count(planned, "epoch"),
            ", and end before these are over unless it becomes faster" if fitting < planned else "",
        )

    def fewer(candidate: Sequence[Train]) -> list[Train]:
        return [
            member.model_copy(update={"epochs": max(1, round(member.epochs * planned / epochs))})
            for member in candidate
        ]

    changed = {name: fewer(candidate) for name, candidate in settings.items()}
    slack = max(left_s - asking_s, 0.0) / (fits_s * planned / epochs)
    return TrainingPlan(changed, planned, slack, speeds, fewer(teacher))


def _untrained(teacher: Sequence[Train], examples: Examples, classes: int, join: str) -> Network | Ensemble:
    """Return a teacher with the settings `teacher` that has learned nothing."""
    networks = [build_network(member, classes, examples.kinds) for member in teacher]
    return networks[0] if len(networks) == 1 else Ensemble(networks, classes, join)


def _needed_s(
    context: TrainingContext, settings: dict[str, list[Train]], speeds: dict[str, Speed], teacher: Sequence[Train]
) -> tuple[float, float]:
    """Return the seconds of all fits of the stage, and of asking what is fitted.

    As if the slowest candidate were chosen and no fit stopped early.
    """
    folds = context.params.calibrate.folds

    def fits_s(members: list[Train], train: int, validation: int) -> float:
        return sum(speeds[_key(member)].fit_s(member, train, validation) for member in members)

    def candidate_s(members: list[Train], train: int, validation: int) -> float:
        # The fits without a fold take as many steps as one on all cells.
        return fits_s(members, train, validation) + folds * fits_s(members, train + validation, 0)

    # What is taught needs its teacher as well.
    networks = [
        [*members, *teacher] if any(member.distil for member in members) else members for members in settings.values()
    ]
    total_s = asking_s = 0.0
    for scheme in context.schemes:
        examples = context.examples(scheme)
        train, validation = len(examples.train), len(examples.validation)
        cells = train + validation
        # Each fold once, and of the cells that a model was fitted on, a sample.
        asked = cells + folds * min(cells * (folds - 1) // folds, SAMPLE) + min(cells, SAMPLE)
        asking_s += asked * sum(speeds[_key(member)].asked_s for members in settings.values() for member in members)
        refits_s = [fits_s(members, train + validation, 0) for members in networks]
        if scheme == context.schemes[0]:
            distinct = {_key(member): member for members in networks for member in members}
            total_s += candidate_s(list(distinct.values()), train, validation)
            total_s += sum(refits_s) + (len(context.params.train.seeds) - 1) * max(refits_s)
        else:
            candidates_s = [candidate_s(members, train, validation) for members in networks]
            total_s += max(map(sum, zip(candidates_s, refits_s, strict=True)))
    return total_s, asking_s


def _key(settings: Train) -> str:
    """Return what is the same for fits of the same speed, as text, because settings hold lists."""
    return settings.model_dump_json(exclude={"epochs", "seeds"})
