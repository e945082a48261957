"""What may become the model of a task: the best fit alone, or an ensemble of the best of several backbones.

Each is first fitted on the training cells and calibrated on the validation cells, which decides between them and how
long to fit; then it is refitted on both.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fatescope.config import Params, Train
from fatescope.inference.ood import MahalanobisDetector
from fatescope.networks.network import Ensemble, Network
from pipelines.training import trainer
from pipelines.training.calibration import Calibration, calibrate
from pipelines.training.cost import Meter, add_costs, fit_cost
from pipelines.training.trainer import Examples, Fit, Indices, Report

OpenRun = Callable[[str, Train], AbstractContextManager[Report]]
"""Opens a tracked run for one fit, by a name and its settings; gives what the fit reports to."""

SINGLE, ENSEMBLE = "single", "ensemble"
DESCRIBED = 20_000
"""The most training cells whose embeddings are kept at once: more would hardly change a mean, a covariance or a linear
layer, and a million of 2,048 figures would take 8 GB."""


@dataclass(frozen=True)
class Candidate:
    """One way to make the model, tried on the validation cells."""

    name: str
    """SINGLE or ENSEMBLE."""
    members: list[Train]
    """The fits that it is made of, each with the epochs that its refit takes."""
    calibration: Calibration
    prior: npt.NDArray[np.float64]
    """(K,) shares of the classes that its probabilities take for granted."""
    cost: dict[str, float]
    """`parameters`, `multiply_adds` a cell, and what its fits took so far (`cost.fit_cost`)."""


@dataclass(frozen=True)
class Refit:
    """A candidate fitted on training and validation cells."""

    network: Network | Ensemble
    outliers: MahalanobisDetector
    cost: dict[str, float]
    """What the fits took (`cost.fit_cost`)."""


def scout(
    examples: Examples,
    groups: npt.NDArray[np.str_],
    classes: int,
    settings: list[list[Train]],
    params: Params,
    open_run: OpenRun,
) -> list[Candidate]:
    """Fit each candidate of `settings` (the fits that it is made of) on the training cells, and calibrate it.

    A fit that two candidates share is made once. `groups` (N,) are the acquisition groups of all cells.
    """
    # By their JSON, because settings hold lists and cannot be hashed.
    fits: dict[str, Fit] = {}
    costs: dict[str, dict[str, float]] = {}
    found = []
    for members in settings:
        for each in members:
            if _key(each) not in fits:
                meter = Meter()
                with open_run(f"scout {each.backbone}", each) as report:
                    fits[_key(each)] = trainer.fit(examples, classes, each, params.train.seeds[0], report)
                costs[_key(each)] = fit_cost(meter)
        network = assemble([fits[_key(each)].network for each in members], examples, classes, params.ensemble.join)
        fitted = described(examples.targets, examples.train)
        known, unseen = (trainer.predict(network, examples.pixels, x) for x in (fitted, examples.validation))
        targets, prior = examples.targets, prior_of(examples, classes, members, params.ensemble.join)
        calibration = calibrate(
            (known, targets[fitted]),
            (unseen, targets[examples.validation]),
            groups[examples.validation],
            prior,
            params.calibrate,
        )
        cost = cost_of(network, examples.pixels.shape[1:]) | add_costs(*(costs[_key(x)] for x in members))
        refits = [each.model_copy(update={"epochs": fits[_key(each)].epochs}) for each in members]
        found.append(Candidate(SINGLE if len(members) == 1 else ENSEMBLE, refits, calibration, prior, cost))
    return found


def refit(
    candidate: Candidate, examples: Examples, classes: int, seed: int, params: Params, open_run: OpenRun
) -> Refit:
    """Fit `candidate` on training and validation cells together, and give it the temperature that was found before."""
    rows = np.sort(np.concatenate([examples.train, examples.validation]))
    whole = replace(examples, train=rows, validation=rows[:0])
    meter, networks = Meter(), []
    for each in candidate.members:
        with open_run(f"refit {each.backbone} seed {seed}", each) as report:
            networks.append(trainer.fit(whole, classes, each, seed, report).network)
    network = assemble(networks, whole, classes, params.ensemble.join)
    network.temperature.fill_(candidate.calibration.temperature)
    cost = fit_cost(meter)
    fitted = described(whole.targets, rows)
    known = trainer.predict(network, whole.pixels, fitted)
    return Refit(
        network, MahalanobisDetector.fit(known.embedding, whole.targets[fitted], params.calibrate.directions), cost
    )


def evenly(rows: Indices, most: int) -> Indices:
    """Return up to `most` of `rows`, evenly, in their order."""
    chosen: Indices = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]
    return chosen


def described(targets: Indices, rows: Indices) -> Indices:
    """Return those of `rows` whose embeddings tell of all: up to an equal share of DESCRIBED of each class."""
    classes = np.unique(targets[rows])
    return np.sort(np.concatenate([evenly(rows[targets[rows] == k], DESCRIBED // len(classes)) for k in classes]))


def assemble(networks: list[Network], examples: Examples, classes: int, join: str) -> Network | Ensemble:
    """Return the one network, or the ensemble of several, whose own layer is fitted on the training cells."""
    if len(networks) == 1:
        return networks[0]
    ensemble = Ensemble(networks, classes, join).to(trainer.device_of()).eval()
    if ensemble.linear is not None:
        rows = described(examples.targets, examples.train)
        embedding = trainer.predict(ensemble, examples.pixels, rows).embedding
        _fit_linear(ensemble.linear, embedding, examples.targets[rows])
    return ensemble


def _fit_linear(linear: nn.Linear, embedding: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> None:
    """Fit the layer on embeddings (n, C): logistic regression, strongly regularised, for the members know them well."""
    scaler = StandardScaler().fit(embedding)
    model = LogisticRegression(C=1e-3, class_weight="balanced", max_iter=500)
    model.fit(scaler.transform(embedding), targets)
    weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:  # of two classes, one column says it all
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    weights = weights / scaler.scale_
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weights))
        linear.bias.copy_(torch.from_numpy(bias - weights @ scaler.mean_))


def prior_of(examples: Examples, classes: int, members: list[Train], join: str) -> npt.NDArray[np.float64]:
    """Return (K,) the shares of classes that one network, or several that are joined, learn to expect."""
    equal, counts = np.full(classes, 1 / classes), np.bincount(examples.targets[examples.train], minlength=classes)
    # The layer on embeddings weighs classes the same, whatever its members do (`_fit_linear`).
    if len(members) > 1 and join == "embeddings":
        return equal
    # The mean of probabilities expects the mean of what each expects.
    shares: npt.NDArray[np.float64] = np.mean(
        [counts / counts.sum() if each.balance == "none" else equal for each in members], axis=0
    )
    return shares


def cost_of(network: nn.Module, canvas: tuple[int, ...]) -> dict[str, float]:
    """Return the `parameters` of `network`, and the `multiply_adds` that a cell on `canvas` takes."""
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(torch.zeros(1, 1, *canvas, device=next(network.parameters()).device))
    parameters = sum(each.numel() for each in network.parameters())
    return {"parameters": float(parameters), "multiply_adds": counter.get_total_flops() / 2}


def _key(settings: Train) -> str:
    return settings.model_dump_json()
