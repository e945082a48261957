"""Train the networks of candidates, those that are taught after their teacher, each fit in a run and metered."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from fatescope.config import Params, Train
from fatescope.networks.network import Ensemble, Network
from pipelines.training import trainer
from pipelines.training.cost import FitCost, Meter
from pipelines.training.cross_fit import Folds
from pipelines.training.ensemble import join_networks
from pipelines.training.examples import Examples, steps_per_epoch
from pipelines.training.trainer import Fit, Report

Seconds = Callable[[Train, Examples], float]
"""Returns the time that one fit may take."""
OpenRun = Callable[[str, Train], AbstractContextManager[Report]]
"""Opens a tracked run for one fit, by a name and its settings; gives the function that the fit reports to."""


@dataclass(frozen=True)
class MeteredFit:
    """A trained network and what training it cost."""

    fit: Fit
    cost: FitCost


@dataclass(frozen=True)
class School:
    """Trains networks on the same cells, those that are taught after their teacher."""

    classes: int
    teacher: list[str]
    """Keys of the networks that teach those with `distil`."""
    params: Params
    open_run: OpenRun
    seconds: Seconds

    def fit(self, name: str, cells: Examples, members: dict[str, Train]) -> dict[str, MeteredFit]:
        """Train the `members`, key → settings, on the training cells of `cells`; return key → fit."""
        fits: dict[str, MeteredFit] = {}
        for key, member in sorted(members.items(), key=lambda item: item[1].distil):
            teacher = self.join([fits[key] for key in self.teacher], cells) if member.distil else None
            seed = self.params.train.seeds[0]
            fits[key] = self.fit_one(f"{name} {describe(member)}", cells, member, seed, teacher)
        return fits

    def fit_one(
        self, name: str, cells: Examples, member: Train, seed: int, teacher: Network | Ensemble | None
    ) -> MeteredFit:
        """Train one network in a run of that name."""
        with self.open_run(name, member) as report:
            meter, seconds = Meter(), self.seconds(member, cells)
            return MeteredFit(trainer.fit(cells, self.classes, member, seed, report, seconds, teacher), meter.cost())

    def join(self, fits: list[MeteredFit], cells: Examples) -> Network | Ensemble:
        """Return the model of networks that were trained on `cells`."""
        networks = [metered.fit.network for metered in fits]
        return join_networks(networks, cells, self.classes, self.params.ensemble.join)


def fit_without_folds(
    members: dict[str, Train], examples: Examples, folds: Folds, school: School
) -> list[dict[str, MeteredFit]]:
    """Train each of `members` without each fold in turn."""
    whole = len(examples.train) + len(examples.validation)
    rounds = []
    for number, fold in enumerate(folds.parts, start=1):
        cells = fold.examples
        longer = {key: _of_as_many_steps(member, whole, len(cells.train)) for key, member in members.items()}
        rounds.append(school.fit(f"fold {number}", cells, longer))
    return rounds


def _of_as_many_steps(member: Train, cells: int, fewer: int) -> Train:
    """Return settings under which a fit on `fewer` cells takes as many steps, in more epochs, as one on `cells`.

    Of fewer cells and fewer steps, a network would be less sure of itself than the one that it calibrates.
    """
    ratio = steps_per_epoch(cells, member.batch_size) / steps_per_epoch(fewer, member.batch_size)
    # Not more of them: the budget has no room for more.
    return member.model_copy(update={"epochs": max(1, int(member.epochs * ratio))})


@contextmanager
def untracked(name: str, settings: Train) -> Iterator[Report]:  # noqa: ARG001  as `OpenRun` wants it
    """Open no run: what a fit reports is kept nowhere."""
    yield lambda *_: None


def no_limit(settings: Train, examples: Examples) -> float:  # noqa: ARG001  as `Seconds` wants it
    """Return no limit to the time that one fit may take."""
    return math.inf


def describe(settings: Train) -> str:
    """Return what the name of a run says of a network with these settings."""
    return f"{settings.backbone} distilled" if settings.distil else settings.backbone


def key_of(settings: Train) -> str:
    """Return what names a network among those of the candidates; settings hold lists and cannot be hashed."""
    return settings.model_dump_json()
