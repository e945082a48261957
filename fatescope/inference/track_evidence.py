"""The answer for a cell of which there are several images over time: sequential evidence, discounted and calibrated.

Each image has, by its calibrated probabilities, a log-likelihood ratio of every class over the class shares that they
assume; after n images these add up (Wald 1945, with more than two classes Armitage 1950). But images of one cell err
together: a cell that looks like another kind looks so for hours. Added up as they are, they would make the answer far
too sure. Of n observations that correlate equally, with r, the sum counts as n / (1 + (n - 1) r) independent ones
(the design effect, Kish 1965), and so it is divided by 1 + (n - 1) r: at 0 images are independent, at 1 their mean
counts, whatever their number. A power `scale` below 1 discounts images further; both are those under which the classes
of cells that the networks had not seen are most likely (`pipelines.training.track_calibration`).

Images that are unlike the training cells say nothing of the class, and do not count.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from fatescope.inference.uncertainty import SURE, UNLIKE, UNSURE

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.integer]

FLOOR = 1e-6
"""Smallest probability of a class that one image may give; no single image is surer than that."""


class TrackEvidence(BaseModel):
    """How the evidence of several images of a cell adds up."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    correlation: float
    """Of the evidence of two images of one cell, 0 to 1."""
    scale: float
    """What the evidence of an image is multiplied by."""
    frames: int
    """Most images of one cell among those that it was fitted on; with more, it is extrapolated."""
    tracks: int
    """Cells with several images that it was fitted on."""

    def weight(self, counted: Floats | Indices) -> Floats:
        """Return what the sum of the evidence of `counted` images is multiplied by."""
        weight: Floats = self.scale / (1 + (np.maximum(counted, 1) - 1) * self.correlation)
        return weight


@dataclass(frozen=True)
class TrackAnswer:
    """The answer for one cell after each of its n images."""

    probabilities: Floats
    """(n, K)"""
    best: int
    """The most probable class after the last image."""
    since: int
    """The image, from 0, from which on the most probable class stays that one."""
    sure_since: int | None
    """That from which on its probability also stays at the coverage of the model, None where it does not."""
    verdict: str
    """`sure` where that is so, `unsure` where it is not, `unlike_training` where no image counts."""


def accumulate(
    llr: Floats, counts: npt.NDArray[np.bool_], starts: Indices, prior: Floats, how: TrackEvidence
) -> Floats:
    """Return the (n, K) probabilities after each of n images, which are in the order of tracks and time.

    `llr` (n, K) is what `log_ratios` returns, `counts` (n,) which images count, and `starts` (T,) where tracks begin.
    """
    counted, total = running_sums(llr, counts, starts)
    return posterior(total * how.weight(counted)[:, None], prior)


def log_ratios(probabilities: Floats, prior: Floats) -> Floats:
    """Return the (n, K) logarithms of how much likelier than the (K,) `prior` an image makes each class."""
    ratios: Floats = np.log(np.maximum(probabilities.astype(np.float64), FLOOR)) - np.log(prior)
    return ratios


def running_sums(llr: Floats, counts: npt.NDArray[np.bool_], starts: Indices) -> tuple[Indices, Floats]:
    """Return for each of n images how many of its track count up to it (n,), and the sum of their evidence (n, K)."""
    lengths = np.diff([*starts, len(llr)])
    rows = np.cumsum(np.column_stack([counts, np.where(counts[:, None], llr, 0)]), axis=0)
    before = np.vstack([np.zeros((1, rows.shape[1])), rows])[starts]
    rows = rows - np.repeat(before, lengths, axis=0)
    return np.rint(rows[:, 0]).astype(np.int64), rows[:, 1:]


def posterior(evidence: Floats, prior: Floats) -> Floats:
    """Return the (n, K) probabilities of classes that have the shares `prior`, after (n, K) logarithms of evidence."""
    logits = evidence + np.log(prior)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def answer_track(
    probabilities: Floats, counts: npt.NDArray[np.bool_], prior: Floats, how: TrackEvidence, coverage: float
) -> TrackAnswer:
    """Return the answer for one cell, by (n, K) `probabilities` of its images in time; those count of which `counts`.

    It is sure where the most probable class has the probability `coverage`, such as 0.9: as probabilities are
    calibrated, such answers are right at least that often.
    """
    after = accumulate(log_ratios(probabilities, prior), counts, np.zeros(1, np.int64), prior, how)
    best = int(after[-1].argmax())
    since = _from_where(after.argmax(1) == best)
    sure = _from_where((after.argmax(1) == best) & (after[:, best] >= coverage))
    assert since is not None, "the last image has the class of the last image"
    verdict = UNLIKE if not counts.any() else UNSURE if sure is None else SURE
    return TrackAnswer(after, best, since, sure, verdict)


def _from_where(holds: npt.NDArray[np.bool_]) -> int | None:
    """Return the first of n images from which on it `holds` to the last, None where it does not hold at the last."""
    if not holds[-1]:
        return None
    fails = np.flatnonzero(~holds)
    return int(fails[-1]) + 1 if len(fails) else 0
