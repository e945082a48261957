"""Gates around good single cells, as cytometrists draw them, learned from cells of which some share is junk.

A cell outside has one or several of REASONS. Limits come from the bulk of the cells: junk in the tails moves medians
and half spreads little, and what is outside is left out when they are computed again. They are as wide as the run of
the data that needs them widest, so that a run with another focus does not become junk as a whole.
"""

from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from fatescope.data.cell_quality import QUALITY

Floats = npt.NDArray[np.floating]
Texts = npt.NDArray[np.str_]

REASONS = ("focus", "doublet", "debris", "clipped", "saturated")
"""What is wrong with a cell: the order of the columns of `outside`."""
ROUNDS = 6
"""Times that limits are computed from the cells inside the limits before."""
MIN_CELLS = 20
"""Cells from which limits can be learned; fewer are all inside."""
MIN_GROUP = 20
"""Cells of a run from which its own centre is looked at."""
MIN_CONTACT, MIN_SATURATION = 0.1, 0.001
"""Shares of the outline on the border, and of saturated pixels, that are never too much."""
_OVERLAP = 0.9
"""Distance of the cells of a doublet over the sum of their radii."""
_VIRTUAL = 4000
"""Doublets that are made from single cells to learn in which direction they lie."""


class QualityGate(BaseModel):
    """The limits of good single cells."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    min_gradient_rms: float
    """A cell whose gradient RMS is below is out of focus."""
    doublet_area: float
    """Weight of the natural logarithm of the area, px, in the doublet score."""
    doublet_aspect_ratio: float
    """Weight of the aspect ratio in the doublet score."""
    max_doublet: float
    """An object whose doublet score is above is more than one cell."""
    min_area: float
    """An object that is smaller, px, is debris."""
    max_border_contact: float
    """A cell with a larger share of its outline on the border of the crop is clipped."""
    max_saturation: float
    """An image with a larger share of pixels at the top of the bit depth is saturated."""

    def doublet(self, features: Floats) -> Floats:
        """Return the (N,) doublet scores of (N, len(QUALITY)) features: large and long objects have high ones."""
        area, aspect_ratio = _log_area(features), features[:, QUALITY.index("aspect_ratio")]
        score: Floats = self.doublet_area * area + self.doublet_aspect_ratio * aspect_ratio
        return score

    def outside(self, features: Floats) -> npt.NDArray[np.bool_]:
        """Return (N, len(REASONS)), true where a cell with (N, len(QUALITY)) features is outside for that reason."""
        column = dict(zip(QUALITY, features.T, strict=True))
        small = column["area"] < self.min_area
        return np.stack(
            [
                # An image without an object has no focus, and what is too small for a cell is no two.
                (column["gradient_rms"] < self.min_gradient_rms) & (column["area"] > 0),
                (self.doublet(features) > self.max_doublet) & ~small,
                small,
                column["border_contact"] > self.max_border_contact,
                column["saturation"] > self.max_saturation,
            ],
            axis=1,
        )


OPEN = QualityGate(
    min_gradient_rms=0,
    doublet_area=0,
    doublet_aspect_ratio=0,
    max_doublet=0,
    min_area=0,
    max_border_contact=1,
    max_saturation=1,
)
"""A gate that no cell is outside of."""


def reasons(outside: npt.NDArray[np.bool_]) -> list[list[str]]:
    """Return the REASONS of each row of what `QualityGate.outside` returns."""
    return [[REASONS[i] for i in np.flatnonzero(row)] for row in outside]


def learn(features: Floats, groups: Texts, loss: float) -> QualityGate:
    """Return the gate of cells with (N, len(QUALITY)) features that are of the (N,) acquisition groups.

    `loss` is the share of good cells that the gates of focus, doublets and debris may cost together. Fewer than
    MIN_CELLS cells give a gate that is open.
    """
    gate = OPEN
    z = NormalDist().inv_cdf(1 - loss / 3)
    rows = np.arange(len(features))
    for _ in range(ROUNDS):
        if len(rows) < MIN_CELLS:
            break
        gate = _fit(features[rows], groups[rows], z)
        rows = np.flatnonzero(~gate.outside(features).any(1))
    return gate


def _fit(features: Floats, groups: Texts, z: float) -> QualityGate:
    column = dict(zip(QUALITY, features.T.astype(np.float64), strict=True))
    area = _log_area(features)
    weights = _doublet_direction(area, column["aspect_ratio"])
    score = weights[0] * area + weights[1] * column["aspect_ratio"]
    return QualityGate(
        min_gradient_rms=_lower(column["gradient_rms"], groups, z),
        doublet_area=float(weights[0]),
        doublet_aspect_ratio=float(weights[1]),
        max_doublet=-_lower(-score, groups, z),
        min_area=float(np.exp(_lower(area, groups, z))),
        max_border_contact=max(MIN_CONTACT, -_lower(-column["border_contact"], groups, z)),
        max_saturation=max(MIN_SATURATION, -_lower(-column["saturation"], groups, z)),
    )


def _log_area(features: Floats) -> Floats:
    area: Floats = np.log(np.maximum(features[:, QUALITY.index("area")], 1))
    return area


def _lower(values: Floats, groups: Texts, z: float) -> float:
    """Return the lower limit of (N,) values: `z` spreads below the centre of the group that is lowest."""
    overall = float(np.median(values))
    centres, shifts, errors = np.full(len(values), overall), [0.0], [0.0]
    for name in np.unique(groups):
        rows = groups == name
        if rows.sum() >= MIN_GROUP:
            centres[rows] = np.median(values[rows])
            shifts.append(float(centres[rows][0]) - overall)
            # The standard error of a median.
            errors.append(1.2533 * _half_spread(values[rows] - centres[rows]) / np.sqrt(rows.sum()))
    spread = _half_spread(values - centres)
    # Medians of few cells scatter more than runs do.
    between = float(np.var(shifts))
    shrink = max(0.0, 1 - float(np.mean(np.square(errors))) / between) if between else 0.0
    return overall + shrink * float(np.min(shifts)) - z * spread


def _half_spread(deviations: Floats) -> float:
    """Return the standard deviation of the lower half of deviations from a centre, by its median."""
    below = deviations[deviations <= 0]
    return 1.4826 * float(np.median(-below)) if len(below) else 0.0


def _doublet_direction(area: Floats, aspect_ratio: Floats) -> Floats:
    """Return the weights of log area and aspect ratio that best tell doublets of these cells from the cells.

    Doublets are made of pairs of the cells, as ellipses that touch (as Scrublet does with profiles, Wolock et al.
    2019); the weights are Fisher's linear discriminant, scaled to a spread of 1 among the cells.
    """
    rng = np.random.default_rng(0)
    pairs = rng.integers(len(area), size=(2, _VIRTUAL))
    product, ratio = np.exp(area[pairs]) / np.pi, np.maximum(aspect_ratio[pairs], 0.05)
    major, minor = product / ratio, product * ratio  # squared semi-axes
    angle = rng.uniform(0, np.pi, pairs.shape)
    cos2, sin2 = np.cos(angle) ** 2, np.sin(angle) ** 2
    along, across = (major * cos2 + minor * sin2) / 4, (major * sin2 + minor * cos2) / 4
    both = ((major - minor) * np.sin(angle) * np.cos(angle)) / 4
    share = product / product.sum(0)
    distance = _OVERLAP * 2 * np.sqrt(along).sum(0)
    xx = (share * along).sum(0) + share[0] * share[1] * distance**2
    yy, xy = (share * across).sum(0), (share * both).sum(0)
    mean, difference = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    doublets = np.stack([np.log(np.pi * product.sum(0)), np.sqrt((mean - difference) / (mean + difference))])
    cells = np.stack([area, aspect_ratio])
    covariance = np.cov(cells) + 1e-9 * np.eye(2)
    weights = np.linalg.solve(covariance, doublets.mean(1) - cells.mean(1))
    direction: Floats = weights / np.sqrt(weights @ covariance @ weights)
    return direction
