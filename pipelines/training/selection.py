"""Candidates for the model of a task: the best fit of the search alone, or an ensemble of several.

Each network is trained three times over. First on the training cells, where the validation cells tell for how many
epochs. Then on parts of both, so that every cell is predicted by a model that has not seen its run ("cross-fit"): this
decides between the candidates and calibrates them. Last on both together, for so many epochs ("refit"); the fits on
parts take as many steps, under the same schedule.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fatescope.config import Params, Train
from fatescope.inference.ood import MahalanobisDetector
from fatescope.networks.network import Ensemble, Network
from pipelines.training import trainer
from pipelines.training.calibration import Calibration, calibrate
from pipelines.training.cost import FitCost, Meter, ModelCost
from pipelines.training.cross_fit import Folds, Unseen, ask
from pipelines.training.ensemble import class_prior, join_networks, model_cost, sample_classes
from pipelines.training.examples import Examples, steps_per_epoch
from pipelines.training.prediction import predict
from pipelines.training.trainer import Fit, Report

Seconds = Callable[[Train, Examples], float]
"""Returns the time that one fit may take."""
OpenRun = Callable[[str, Train], AbstractContextManager[Report]]
"""Opens a tracked run for one fit, by a name and its settings; gives the function that the fit reports to."""

SINGLE, ENSEMBLE = "single", "ensemble"


@dataclass(frozen=True)
class Candidate:
    """A model whose epochs were chosen on the validation cells, calibrated by cross-fitting."""

    name: str
    """SINGLE or ENSEMBLE."""
    members: list[Train]
    """The settings of its networks, with the epochs that their refit takes."""
    unseen: Unseen
    """What it says of the cells of the folds."""
    calibration: Calibration
    prior: npt.NDArray[np.float64]
    """(K,) shares of the classes that its probabilities assume."""
    model: ModelCost
    fits: FitCost
    """Cost of all its fits, on the training cells and without each fold."""
    shortened: bool
    """Whether any of its fits was shortened, because time was short."""


@dataclass(frozen=True)
class Refit:
    """A candidate trained on training and validation cells."""

    network: Network | Ensemble
    outliers: MahalanobisDetector
    cost: FitCost
    """Cost of its fits."""
    shortened: bool
    """Whether any of its fits was shortened, because time was short."""


@dataclass(frozen=True)
class MeteredFit:
    """A trained network and what training it cost."""

    fit: Fit
    cost: FitCost


def train_candidates(
    examples: Examples,
    folds: Folds,
    classes: int,
    settings: list[list[Train]],
    params: Params,
    open_run: OpenRun,
    seconds: Seconds = lambda *_: math.inf,
) -> list[Candidate]:
    """Choose the epochs of each candidate of `settings` (one entry a network), and calibrate it by cross-fitting.

    A network that two candidates share is trained once; `seconds` gives the time that a fit may take.
    """

    def fit(name: str, cells: Examples, member: Train) -> MeteredFit:
        return _fit(f"{name} {member.backbone}", cells, classes, member, params.train.seeds[0], open_run, seconds)

    # By their JSON, because settings hold lists and cannot be hashed.
    members = {_key(member): member for each in settings for member in each}
    scouts = {key: fit("candidate", examples, member) for key, member in members.items()}
    members = {key: member.model_copy(update={"epochs": scouts[key].fit.epochs}) for key, member in members.items()}
    rounds = [scouts, *_fit_without_folds(members, examples, folds, fit)]
    candidates = []
    for keys in ([_key(member) for member in each] for each in settings):
        chosen = [[each[key] for key in keys] for each in rounds]
        candidates.append(
            _calibrate_candidate(examples, folds, classes, [members[key] for key in keys], chosen, params)
        )
    return candidates


def repeat_candidate(
    examples: Examples, folds: Folds, classes: int, members: list[Train], params: Params, open_run: OpenRun
) -> Candidate:
    """Calibrate a candidate by cross-fitting, with the epochs that an earlier training chose for its networks."""

    def fit(name: str, cells: Examples, member: Train) -> MeteredFit:
        return _fit(f"{name} {member.backbone}", cells, classes, member, params.train.seeds[0], open_run, _no_limit)

    named = {_key(member): member for member in members}
    rounds = _fit_without_folds(named, examples, folds, fit)
    chosen = [[each[_key(member)] for member in members] for each in rounds]
    return _calibrate_candidate(examples, folds, classes, members, chosen, params)


def _fit_without_folds(
    members: dict[str, Train], examples: Examples, folds: Folds, fit: Callable[[str, Examples, Train], MeteredFit]
) -> list[dict[str, MeteredFit]]:
    """Train each of `members` without each fold in turn."""
    whole = len(examples.train) + len(examples.validation)
    return [
        {
            key: fit(f"fold {number}", fold.examples, _of_as_many_steps(member, whole, len(fold.examples.train)))
            for key, member in members.items()
        }
        for number, fold in enumerate(folds.parts, start=1)
    ]


def _no_limit(settings: Train, examples: Examples) -> float:  # noqa: ARG001  as `Seconds` wants it
    return math.inf


def _calibrate_candidate(
    examples: Examples,
    folds: Folds,
    classes: int,
    members: list[Train],
    rounds: list[list[MeteredFit]],
    params: Params,
) -> Candidate:
    """Calibrate a candidate on what it says of each fold.

    `rounds` are the fits of its networks: those on the training cells, if there are any, and then without each fold.
    """
    join, directions = params.ensemble.join, params.calibrate.directions
    networks = [[metered.fit.network for metered in fits] for fits in rounds]
    first, fitted = networks[0], networks[-len(folds.parts) :]
    unseen = Unseen.join(
        [
            ask(join_networks(of_fold, fold.examples, classes, join), fold, directions)
            for of_fold, fold in zip(fitted, folds.parts, strict=True)
        ]
    )
    prior = class_prior(examples.merge_validation(), classes, members, join)
    fits = [metered for each in rounds for metered in each]
    return Candidate(
        name=SINGLE if len(members) == 1 else ENSEMBLE,
        members=members,
        unseen=unseen,
        calibration=calibrate(
            unseen,
            examples.targets[unseen.rows],
            folds.groups[unseen.rows],
            prior,
            params.calibrate,
            folds.tracks and folds.tracks.take(unseen.rows),
        ),
        prior=prior,
        model=model_cost(join_networks(first, examples, classes, join), examples.pixels.shape[1:]),
        fits=sum((metered.cost for metered in fits[1:]), fits[0].cost),
        shortened=any(metered.fit.shortened for metered in fits),
    )


def _of_as_many_steps(member: Train, cells: int, fewer: int) -> Train:
    """Return settings under which a fit on `fewer` cells takes as many steps, in more epochs, as one on `cells`.

    Of fewer cells and fewer steps, a network would be less sure of itself than the one that it calibrates.
    """
    ratio = steps_per_epoch(cells, member.batch_size) / steps_per_epoch(fewer, member.batch_size)
    # Not more of them: the budget has no room for more.
    return member.model_copy(update={"epochs": max(1, int(member.epochs * ratio))})


def _fit(
    name: str, examples: Examples, classes: int, member: Train, seed: int, open_run: OpenRun, seconds: Seconds
) -> MeteredFit:
    """Train one network in a run of that name."""
    with open_run(name, member) as report:
        meter = Meter()
        return MeteredFit(trainer.fit(examples, classes, member, seed, report, seconds(member, examples)), meter.cost())


def refit_candidate(
    candidate: Candidate,
    examples: Examples,
    classes: int,
    seed: int,
    params: Params,
    open_run: OpenRun,
    seconds: Seconds = lambda *_: math.inf,
) -> Refit:
    """Train `candidate` on training and validation cells together, with the temperature of its calibration."""
    merged = examples.merge_validation()
    fits = [
        _fit(f"refit {member.backbone} seed {seed}", merged, classes, member, seed, open_run, seconds)
        for member in candidate.members
    ]
    network = join_networks([metered.fit.network for metered in fits], merged, classes, params.ensemble.join)
    network.temperature.fill_(candidate.calibration.temperature)
    sample = sample_classes(merged.targets, merged.train)
    embedding = predict(network, merged.pixels, sample).embedding
    outliers = MahalanobisDetector.fit(embedding, merged.targets[sample], params.calibrate.directions)
    # A candidate that was shortened passes its few epochs on.
    cost = sum((metered.cost for metered in fits[1:]), fits[0].cost)
    return Refit(network, outliers, cost, candidate.shortened or any(metered.fit.shortened for metered in fits))


def _key(settings: Train) -> str:
    return settings.model_dump_json()
