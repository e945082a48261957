"""Candidates for the model of a task: the best fit of the search alone, an ensemble, or what either taught a small one.

Each network is trained three times over. First on the training cells, where the validation cells tell for how many
epochs. Then on parts of both, so that every cell is predicted by a model that has not seen its run ("cross-fit"): this
decides between the candidates and calibrates them. Last on both together, for so many epochs ("refit"); the fits on
parts take as many steps, under the same schedule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt

from fatescope.config import Params, Train
from fatescope.inference.ood import MahalanobisDetector
from fatescope.networks.network import Ensemble, Network
from pipelines.training.calibration import Calibration, calibrate
from pipelines.training.candidate_fits import (
    MeteredFit,
    OpenRun,
    School,
    Seconds,
    describe,
    fit_without_folds,
    key_of,
    no_limit,
)
from pipelines.training.cost import FitCost, ModelCost
from pipelines.training.cross_fit import Folds, Unseen, ask, check_groups
from pipelines.training.ensemble import class_prior, join_networks, model_cost, sample_classes
from pipelines.training.examples import Examples
from pipelines.training.prediction import predict

SINGLE, ENSEMBLE, DISTILLED = "single", "ensemble", "distilled"


@dataclass(frozen=True)
class Candidate:
    """A model whose epochs were chosen on the validation cells, calibrated by cross-fitting."""

    name: str
    """SINGLE, ENSEMBLE or DISTILLED."""
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
    teacher: list[Train] = field(default_factory=list)
    """The settings of the networks that taught it, with the epochs that their refit takes; empty for others."""


@dataclass(frozen=True)
class Refit:
    """A candidate trained on training and validation cells."""

    network: Network | Ensemble
    outliers: MahalanobisDetector
    cost: FitCost
    """Cost of its fits."""
    shortened: bool
    """Whether any of its fits was shortened, because time was short."""


def train_candidates(  # noqa: PLR0913  the fits share all of it
    examples: Examples,
    folds: Folds,
    classes: int,
    settings: list[list[Train]],
    params: Params,
    open_run: OpenRun,
    seconds: Seconds = no_limit,
    *,
    teacher: Sequence[Train] = (),
) -> list[Candidate]:
    """Choose the epochs of each candidate of `settings` (one entry a network), and calibrate it by cross-fitting.

    A network that two candidates share is trained once; `seconds` gives the time that a fit may take. Networks with
    `distil` are taught by those with the settings `teacher`, joined, which were trained on the same cells: the teacher
    of a fold has not seen the cells that are held out of it either. Raises ParamsError, before the first fit, where
    one with `train.groups: dro` would have cells of one acquisition group only.
    """
    check_groups(examples, folds, chain(teacher, *settings))
    school = School(classes, [key_of(member) for member in teacher], params, open_run, seconds)
    members = {key_of(member): member for each in (teacher, *settings) for member in each}
    scouts = school.fit("candidate", examples, members)
    members = {key: member.model_copy(update={"epochs": scouts[key].fit.epochs}) for key, member in members.items()}
    rounds = [scouts, *fit_without_folds(members, examples, folds, school)]
    keys = [[key_of(member) for member in each] for each in settings]
    return [_calibrate_candidate(examples, folds, members, each, rounds, school) for each in keys]


def repeat_candidate(
    examples: Examples,
    folds: Folds,
    classes: int,
    members: list[Train],
    params: Params,
    open_run: OpenRun,
    teacher: Sequence[Train] = (),
) -> Candidate:
    """Calibrate a candidate by cross-fitting, with the epochs that an earlier training chose for its networks.

    `teacher` are the settings of the networks that taught it, if any did.
    """
    school = School(classes, [key_of(member) for member in teacher], params, open_run, no_limit)
    named = {key_of(member): member for member in (*teacher, *members)}
    rounds = fit_without_folds(named, examples, folds, school)
    return _calibrate_candidate(examples, folds, named, [key_of(member) for member in members], rounds, school)


def _calibrate_candidate(
    examples: Examples,
    folds: Folds,
    settings: dict[str, Train],
    keys: list[str],
    rounds: list[dict[str, MeteredFit]],
    school: School,
) -> Candidate:
    """Calibrate the candidate with the networks `keys` on what it says of each fold.

    `rounds` are the fits of all networks: those on the training cells, if there are any, and then without each fold.
    """
    params, classes, members = school.params, school.classes, [settings[key] for key in keys]
    teacher = school.teacher if any(member.distil for member in members) else []
    join, directions = params.ensemble.join, params.calibrate.directions
    networks = [[fits[key].fit.network for key in keys] for fits in rounds]
    first, fitted = networks[0], networks[-len(folds.parts) :]
    unseen = Unseen.join(
        [
            ask(join_networks(of_fold, fold.examples, classes, join), fold, directions)
            for of_fold, fold in zip(fitted, folds.parts, strict=True)
        ]
    )
    prior = class_prior(examples.merge_validation(), classes, members, join)
    # A network that is taught costs its teacher too.
    fits = [each[key] for each in rounds for key in (*keys, *teacher)]
    return Candidate(
        name=DISTILLED if teacher else SINGLE if len(members) == 1 else ENSEMBLE,
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
        teacher=[settings[key] for key in teacher],
    )


def refit_candidate(
    candidate: Candidate,
    examples: Examples,
    classes: int,
    seed: int,
    params: Params,
    open_run: OpenRun,
    seconds: Seconds = no_limit,
) -> Refit:
    """Train `candidate` on training and validation cells together, with the temperature of its calibration."""
    merged = examples.merge_validation()
    school, fits = School(classes, [], params, open_run, seconds), list[MeteredFit]()
    network: Network | Ensemble | None = None
    for members in filter(None, (candidate.teacher, candidate.members)):
        names = [f"refit {describe(member)} seed {seed}" for member in members]
        taught = [
            school.fit_one(name, merged, member, seed, network) for name, member in zip(names, members, strict=True)
        ]
        network, fits = school.join(taught, merged), [*fits, *taught]
    assert network is not None, "a candidate has members"
    network.temperature.fill_(candidate.calibration.temperature)
    sample = sample_classes(merged.targets, merged.train)
    embedding = predict(network, merged.pixels, sample).embedding
    outliers = MahalanobisDetector.fit(embedding, merged.targets[sample], params.calibrate.directions)
    # A candidate that was shortened passes its few epochs on.
    cost = sum((metered.cost for metered in fits[1:]), fits[0].cost)
    return Refit(network, outliers, cost, candidate.shortened or any(metered.fit.shortened for metered in fits))
