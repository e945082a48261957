"""How good answers for cells with several images over time are, by the number of images, and how early they settle."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.data.tracks import Tracks
from fatescope.inference.track_evidence import TrackEvidence, accumulate, log_ratios
from pipelines.evaluation import calibration_metrics
from pipelines.evaluation.track_report import FrameMetrics, TrackMetrics

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]

MIN_TRACKS = 20
"""Cells with as many images, fewer of which have no row of their own: their calibration would be chance."""


@dataclass(frozen=True)
class Followed:
    """The images of cells that have several, in the order of tracks and time, and their answers."""

    starts: Indices
    """(T,) where each track begins."""
    targets: Indices
    """(n,) classes."""
    single: Floats
    """(n, K) probabilities by each image alone."""
    counts: npt.NDArray[np.bool_]
    """(n,) those that are like the training cells."""
    after: Floats
    """(n, K) probabilities after each image."""

    @property
    def lengths(self) -> Indices:
        """Return the (T,) numbers of images."""
        lengths: Indices = np.diff([*self.starts, len(self.targets)])
        return lengths

    @property
    def number(self) -> Indices:
        """Return which image of its track each is, (n,) from 1."""
        number: Indices = np.arange(len(self.targets)) - np.repeat(self.starts, self.lengths) + 1
        return number


def follow(
    probabilities: Floats,
    counts: npt.NDArray[np.bool_],
    targets: Indices,
    tracks: Tracks,
    prior: Floats,
    how: TrackEvidence,
) -> Followed:
    """Return the images of cells that have several among n, with (n, K) `probabilities` of each image alone."""
    order, starts = tracks.in_order()
    lengths = np.diff([*starts, len(order)])
    order, lengths = order[np.repeat(lengths > 1, lengths)], lengths[lengths > 1]
    starts = np.cumsum(lengths) - lengths
    single = probabilities[order]
    after = accumulate(log_ratios(single, prior), counts[order], starts, prior, how)
    return Followed(starts, targets[order], single, counts[order], after)


def measure(followed: Followed, prior: Floats, how: TrackEvidence, coverage: float, bins: int) -> TrackMetrics | None:
    """Return the metrics of answers after one, two and more images; None where too few cells have several.

    Classes count by the shares in `prior`, as where single images are calibrated.
    """
    if len(followed.starts) < MIN_TRACKS:
        return None
    independent = how.model_copy(update={"correlation": 0.0, "scale": 1.0})
    summed = accumulate(log_ratios(followed.single, prior), followed.counts, followed.starts, prior, independent)
    most = int(np.sort(followed.lengths)[-MIN_TRACKS])
    rows = [np.flatnonzero(followed.number == frames) for frames in range(1, most + 1)]
    since, sure = settle(followed, coverage)
    last = followed.starts + followed.lengths - 1
    right = followed.after[last].argmax(1) == followed.targets[last]
    share = since / followed.lengths
    return TrackMetrics(
        tracks=len(followed.starts),
        correlation=how.correlation,
        scale=how.scale,
        frames=[_measure(followed, summed, n, chosen, since, prior, bins) for n, chosen in enumerate(rows, start=1)],
        settled_after=float(np.median(since)),
        settled_share=float(share.mean()),
        sure=float((sure > 0).mean()),
        sure_after=float(np.median(sure[sure > 0])) if (sure > 0).any() else None,
        accuracy_of_sure=float(right[sure > 0].mean()) if (sure > 0).any() else None,
    )


def _measure(
    followed: Followed, summed: Floats, frames: int, rows: Indices, since: Indices, prior: Floats, bins: int
) -> FrameMetrics:
    """Return the metrics of the answers after so many images, which are in `rows`."""
    targets, after, alone = followed.targets[rows], followed.after[rows], followed.single[rows]
    weights = calibration_metrics.class_weights(targets, prior)
    long_enough = followed.lengths >= frames
    return FrameMetrics(
        frames=frames,
        tracks=len(rows),
        accuracy=float((after.argmax(1) == targets).mean()),
        balanced_accuracy=_mean_recall(targets, after),
        calibration=calibration_metrics.calibration(targets, after, bins, weights),
        alone=calibration_metrics.calibration(targets, alone, bins, weights),
        accuracy_alone=_mean_recall(targets, alone),
        undiscounted=calibration_metrics.calibration(targets, summed[rows], bins, weights),
        settled=float((since[long_enough] <= frames).mean()),
    )


def _mean_recall(targets: Indices, probabilities: Floats) -> float:
    right = probabilities.argmax(1) == targets
    return float(np.mean([right[targets == k].mean() for k in np.unique(targets)]))


def settle(followed: Followed, coverage: float) -> tuple[Indices, Indices]:
    """Return for each track after how many images its last call is reached and stays, and the same of a sure call.

    Both are (T,); a call is sure from where its probability stays at `coverage`, and 0 stands for never.
    """
    best = followed.after.argmax(1)
    last = followed.starts + followed.lengths - 1
    final = np.repeat(best[last], followed.lengths)
    called = best == final
    certain = called & (followed.after[np.arange(len(final)), final] >= coverage)
    since, sure = (_stays_from(holds, followed) for holds in (called, certain))
    return since, np.where(certain[last], sure, 0)


def _stays_from(holds: npt.NDArray[np.bool_], followed: Followed) -> Indices:
    """Return (T,) the image, from 1, after the last one at which it does not hold."""
    failed = np.maximum.reduceat(np.where(holds, 0, followed.number), followed.starts)
    since: Indices = failed + 1
    return since


def tabulate(metrics: TrackMetrics) -> pd.DataFrame:
    """Return a row for each number of images, for the plot."""
    rows = [
        {
            "frames": row.frames,
            "tracks": row.tracks,
            "balanced_accuracy": row.balanced_accuracy,
            "accuracy_alone": row.accuracy_alone,
            "calibration_error": row.calibration.ece,
            "error_alone": row.alone.ece,
            "undiscounted_error": row.undiscounted.ece,
            "settled": row.settled,
        }
        for row in metrics.frames
    ]
    return pd.DataFrame(rows)
