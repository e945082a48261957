"""Fit how the evidence of several images of a cell adds up, on what cross-fitted networks say of cells unseen.

Of every cell with several images, its first one, two and so on count as one answer each, and each cell as much as any
other of its class; classes are weighted by the shares that the probabilities assume, as for the temperature. The
correlation and the scale are those of the least negative log-likelihood (`fatescope.inference.track_evidence`). Answers
by a single image stay as they are: their temperature was fitted before.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from fatescope.data.tracks import Tracks
from fatescope.inference.track_evidence import TrackEvidence, log_ratios, posterior, running_sums

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]

MIN_TRACKS = 20
"""Cells with several images, fewer of which fit nothing."""
_BOUNDS = ((0.0, 1.0), (0.1, 2.0))
"""Of the correlation and the scale."""


def fit_evidence(
    probabilities: Floats, counts: npt.NDArray[np.bool_], targets: Indices, tracks: Tracks, prior: Floats
) -> TrackEvidence | None:
    """Return how images add up, from (n, K) `probabilities` of n unseen images, whose classes are (n,) `targets`.

    `counts` (n,) are those that are like the training cells. None where fewer than MIN_TRACKS cells have several.
    """
    order, starts = tracks.in_order()
    lengths = np.diff([*starts, len(order)])
    several = np.repeat(lengths > 1, lengths)
    if (lengths > 1).sum() < MIN_TRACKS:
        return None
    lengths, order = lengths[lengths > 1], order[several]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    counted, total = running_sums(log_ratios(probabilities[order], prior), counts[order], starts)
    truth = targets[order]
    weights = np.repeat(1 / lengths, lengths)
    weights *= (prior / np.maximum(np.bincount(truth, weights, len(prior)), 1e-12))[truth]

    def loss(parameters: Floats) -> float:
        how = _evidence(parameters, int(lengths.max()), len(lengths))
        right = posterior(total * how.weight(counted)[:, None], prior)[np.arange(len(truth)), truth]
        return float(-(weights * np.log(np.maximum(right, 1e-300))).sum() / weights.sum())

    # From several starts: the two trade off against each other where most tracks are equally long.
    fits = [minimize(loss, start, bounds=_BOUNDS, method="L-BFGS-B") for start in ([0.3, 1.0], [0.8, 1.0])]
    best = min(fits, key=lambda fit: fit.fun)
    return _evidence(best.x, int(lengths.max()), len(lengths))


def _evidence(parameters: Floats, frames: int, tracks: int) -> TrackEvidence:
    correlation, scale = (float(np.clip(value, *ends)) for value, ends in zip(parameters, _BOUNDS, strict=True))
    return TrackEvidence(correlation=correlation, scale=scale, frames=frames, tracks=tracks)
