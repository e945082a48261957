"""How far the cells of a window lie from those that a model knows, in units of what windows of like cells differ by.

A cell is described by the components of its embedding and their absolute values: the means of these say where cells
lie, and whether between the classes or beyond them. Means of like cells differ from those of the reference by

- the mixture of classes: in proportion to the shares of the predicted classes, by a regression;
- runs: each has a random effect, whose covariance follows from the groups of the reference, less their chance;
- chance: cells of one run scatter, and their covariance follows from those of the groups.

The distance is that of Mahalanobis (1936) under the sum of these covariances, for the size of a window and for how many
runs it has: about 1 for like cells, whatever the window.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from monitoring.statistics import Floats, Rows
from monitoring.thresholds import CONCENTRATIONS

LEAST_SPREAD = 0.003
"""The least variance between runs that is assumed along any direction, as a share of that between cells of one run."""
_PRIOR_SLOPE = 0.1
"""Groups of one class each that the regression within groups counts as; it decides where all are mixed alike."""
_DRAWS = 4000
"""References, and a window for each, from which limits are computed."""


def describe(components: Floats) -> Floats:
    """Return the (n, M) descriptions of cells with (n, M / 2) `components`."""
    return np.concatenate([components, np.abs(components)], axis=1)


@dataclass(frozen=True)
class Novelty:
    """Where windows of like cells lie, in directions along each of which cells of one run scatter by 1."""

    shares: Floats
    """(K,) of the predicted classes, mean over groups."""
    directions: Floats
    """(M, M)"""
    effects: Floats
    """(P, M) means along them: at these shares, added for others, and added in groups that the model was fitted on."""
    uncertainty: Floats
    """(P, P) covariance of the effects of covariates, in units of that of a mean of a group."""
    between: Floats
    """(M, M) covariance of the effects of runs."""
    freedom: int
    """Degrees of freedom with which it was estimated; 0 where there is one group only."""
    cells: float
    """Of a group, harmonic mean."""

    @classmethod
    def of(cls, described: Floats, predicted: Floats, groups: list[Rows], seen: npt.NDArray[np.bool_]) -> Self:
        """Learn from (n, M) descriptions of cells, (n, K) predicted classes, groups, and (n,) whether fitted on."""
        means, mixtures = (np.stack([each[rows].mean(0) for rows in groups]) for each in (described, predicted))
        inside, mixed = (
            np.concatenate([each[rows] - each[rows].mean(0) for rows in groups]) for each in (described, predicted)
        )
        shares = mixtures.mean(0)
        slopes = np.linalg.pinv(mixed[:, 1:], rcond=1e-6) @ inside
        fitted = np.array([seen[rows].mean() > 0.5 for rows in groups], float)
        if fitted.all():
            fitted[:] = 0
        others = (mixtures - shares)[:, 1:]
        covariates = np.column_stack([np.ones(len(groups)), others, fitted])
        if len(groups) < 2 * covariates.shape[1]:
            covariates[:, 1:] = 0
        prior = np.diag([0, *[_PRIOR_SLOPE] * len(slopes), 0])
        uncertainty = np.linalg.pinv(covariates.T @ covariates + prior, hermitian=True)
        effects = uncertainty @ covariates.T @ (means - others @ slopes)
        effects[1:-1] += slopes
        # A mixture that varies by chance moves the means by the effects of the covariates.
        inside -= mixed[:, 1:] @ effects[1:-1]
        directions = _whitening(inside.T @ inside / max(len(inside) - len(groups), 1))
        adjusted = (means - others @ effects[1:-1] - np.outer(fitted, effects[-1])) @ directions
        freedom = len(groups) - int(covariates.any(0).sum())
        cells = 1 / float(np.mean([1 / len(rows) for rows in groups]))
        deviations = adjusted - adjusted.mean(0)
        between = _between(deviations.T @ deviations, freedom, cells)
        return cls(shares, directions, effects @ directions, uncertainty, between, freedom, cells)

    def distance(self, described: Floats, shares: Floats, cells: int, concentration: float) -> float:
        """Return the distance of a window with a (M,) mean description and (K,) shares of the predicted classes.

        `concentration` is 1 for cells of one run and 1 / R for those of R runs.
        """
        covariates = np.array([1, *(shares - self.shares)[1:], 0])
        deviation = described @ self.directions - covariates @ self.effects
        runs, chance = self._weights(covariates, cells, concentration)
        covariance = self.between * runs + np.eye(len(deviation)) * chance
        return float(np.sqrt(deviation @ np.linalg.solve(covariance, deviation) / len(deviation)))

    def limit(self, cells: int, concentration: float, level: float) -> float:
        """Return the distance below which all but the share `level` of windows of like cells stay.

        Few groups do not tell exactly how runs differ: references like this one are drawn again, and windows from what
        this one says.
        """
        values, window, drawn, aligned = self._drawn
        runs, chance = self._weights(np.eye(1, len(self.effects))[0], cells, concentration)
        place = np.matmul((window * np.sqrt(values * runs + chance))[:, None], aligned)[:, 0]
        return float(np.sqrt(np.quantile((place**2 / (drawn * runs + chance)).mean(1), 1 - level)))

    def _weights(self, covariates: Floats, cells: int, concentration: float) -> tuple[float, float]:
        """Return by how much the effects of runs, and cells of one run, vary in a window beside these means."""
        leverage = float(covariates @ self.uncertainty @ covariates)
        # Lamps show the number of runs only roughly: the highest that it may be.
        most = (*CONCENTRATIONS, 1.0)[int(np.digitize(concentration, CONCENTRATIONS))]
        return most + leverage, 1 / cells + leverage / self.cells

    @cached_property
    def _drawn(self) -> tuple[Floats, Floats, Floats, Floats]:
        """The (M,) variances between runs, (D, M) deviates, and (D, M) variances of drawn references and directions."""
        rng, values = np.random.default_rng(0), np.linalg.eigvalsh(self.between)
        window = rng.standard_normal((_DRAWS, len(values)))
        means = rng.standard_normal((_DRAWS, self.freedom, len(values))) * np.sqrt(values + 1 / self.cells)
        between = _between(means.swapaxes(1, 2) @ means, self.freedom, self.cells)
        if not self.freedom:
            between = np.broadcast_to(np.diag(values), between.shape)
        return (values, window, *np.linalg.eigh(between))


def _between(squares: Floats, freedom: int, cells: float) -> Floats:
    """Return (…, M, M) covariances of effects of runs from sums of squares of means of groups of `cells` cells.

    Few groups do not show all directions apart, so that as much weight as M groups have goes to their mean.
    """
    size = squares.shape[-1]
    between = squares - freedom / cells * np.eye(size)
    mean = np.maximum(np.trace(between, axis1=-2, axis2=-1), 0) / max(freedom, 1)
    values, vectors = np.linalg.eigh((between + mean[..., None, None] * np.eye(size)) / (freedom + size))
    spread = vectors * np.maximum(values, LEAST_SPREAD)[..., None, :]
    covariance: Floats = spread @ vectors.swapaxes(-1, -2)
    return covariance


def _whitening(covariance: Floats) -> Floats:
    """Return the (M, M) map to directions along which cells with this covariance scatter by 1, or less."""
    scale = np.sqrt(np.diag(covariance))
    # What is the same for all cells says nothing.
    scale = np.where(scale > 1e-6 * scale.max(), scale, np.inf)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    # Descriptions may follow each other.
    directions: Floats = vectors / np.sqrt(np.maximum(values, 0.01)) / scale[:, None]
    return directions
