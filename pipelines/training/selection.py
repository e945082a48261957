"""Candidates for the model of a task: the best fit of the search alone, or an ensemble of several.

Each candidate is first trained on the training cells and calibrated on the validation cells, which decide between the
candidates and for how many epochs to train. Then it is trained again, on both ("refit").
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
from pipelines.training.ensemble import class_prior, join_networks, model_cost, sample_classes
from pipelines.training.examples import Examples
from pipelines.training.prediction import predict
from pipelines.training.trainer import Fit, Report

Seconds = Callable[[Train, Examples], float]
"""Returns the time that one fit may take."""
OpenRun = Callable[[str, Train], AbstractContextManager[Report]]
"""Opens a tracked run for one fit, by a name and its settings; gives the function that the fit reports to."""

SINGLE, ENSEMBLE = "single", "ensemble"


@dataclass(frozen=True)
class Candidate:
    """A model that was trained on the training cells and calibrated on the validation cells."""

    name: str
    """SINGLE or ENSEMBLE."""
    members: list[Train]
    """The settings of its networks, with the epochs that their refit takes."""
    calibration: Calibration
    prior: npt.NDArray[np.float64]
    """(K,) shares of the classes that its probabilities assume."""
    model: ModelCost
    fits: FitCost
    """Cost of all its fits on the training cells."""
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
    groups: npt.NDArray[np.str_],
    classes: int,
    settings: list[list[Train]],
    params: Params,
    open_run: OpenRun,
    seconds: Seconds = lambda *_: math.inf,
) -> list[Candidate]:
    """Train each candidate of `settings` (one entry a network) on the training cells, and calibrate it.

    A network that two candidates share is trained once. `groups` (N,) are the acquisition groups of all cells;
    `seconds` gives the time that a fit may take.
    """
    # By their JSON, because settings hold lists and cannot be hashed.
    fits: dict[str, MeteredFit] = {}
    for member in (member for members in settings for member in members):
        if _key(member) not in fits:
            with open_run(f"candidate {member.backbone}", member) as report:
                meter = Meter()
                seed, limit_s = params.train.seeds[0], seconds(member, examples)
                fit = trainer.fit(examples, classes, member, seed, report, limit_s)
            fits[_key(member)] = MeteredFit(fit, meter.cost())
    return [
        _calibrate_candidate(examples, groups, classes, members, [fits[_key(member)] for member in members], params)
        for members in settings
    ]


def _calibrate_candidate(
    examples: Examples,
    groups: npt.NDArray[np.str_],
    classes: int,
    members: list[Train],
    fits: list[MeteredFit],
    params: Params,
) -> Candidate:
    """Join the networks of a candidate and calibrate it on the validation cells."""
    join, targets = params.ensemble.join, examples.targets
    network = join_networks([member.fit.network for member in fits], examples, classes, join)
    sample = sample_classes(targets, examples.train)
    fitted, unseen = (predict(network, examples.pixels, rows) for rows in (sample, examples.validation))
    prior = class_prior(examples, classes, members, join)
    calibration = calibrate(
        (fitted, targets[sample]),
        (unseen, targets[examples.validation]),
        groups[examples.validation],
        prior,
        params.calibrate,
    )
    return Candidate(
        name=SINGLE if len(members) == 1 else ENSEMBLE,
        members=[
            member.model_copy(update={"epochs": metered.fit.epochs})
            for member, metered in zip(members, fits, strict=True)
        ],
        calibration=calibration,
        prior=prior,
        model=model_cost(network, examples.pixels.shape[1:]),
        fits=sum((metered.cost for metered in fits[1:]), fits[0].cost),
        shortened=any(metered.fit.shortened for metered in fits),
    )


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
    meter, fits = Meter(), []
    for member in candidate.members:
        with open_run(f"refit {member.backbone} seed {seed}", member) as report:
            fits.append(trainer.fit(merged, classes, member, seed, report, seconds(member, merged)))
    network = join_networks([fit.network for fit in fits], merged, classes, params.ensemble.join)
    network.temperature.fill_(candidate.calibration.temperature)
    cost = meter.cost()
    sample = sample_classes(merged.targets, merged.train)
    embedding = predict(network, merged.pixels, sample).embedding
    outliers = MahalanobisDetector.fit(embedding, merged.targets[sample], params.calibrate.directions)
    # A candidate that was shortened passes its few epochs on.
    return Refit(network, outliers, cost, candidate.shortened or any(fit.shortened for fit in fits))


def _key(settings: Train) -> str:
    return settings.model_dump_json()
