"""Whether the instrument, as acquisition groups show it, tells two classes apart.

A group counts once, by the median of its cells. A linear discriminant (independent features, one variance for both
classes) judges each group by the others. With few groups that goes well by chance too, so three things are asked:

- the lower end of the AUC's interval, a jackknife over groups, reaches the threshold of the audit;
- the AUC of single cells reaches VISIBLE. A network sees one cell at a time, and many cells together show differences
  that are far too small for it, those of biology among them;
- labels that are dealt to the groups anew separate them as well in at most ALARM of all audits without any difference
  (a permutation test, corrected for all pairs and descriptions). With n groups a class, no p-value is below two in
  n-out-of-2n choices: below five groups (two classes) or six (four classes) nobody can be accused, whatever the data.

Groups that hold both classes do not count, since their acquisition cannot tell these apart.
"""

from itertools import combinations
from math import ceil, comb

import numpy as np
import numpy.typing as npt

from fatescope.config import Audit
from pipelines.evaluation import instrument
from pipelines.evaluation.audit_report import GroupEvidence, PairVerdict, Stage
from pipelines.evaluation.audit_sample import AuditSample
from pipelines.evaluation.confounding import kind_of
from pipelines.evaluation.intervals import MIN_GROUPS, Floats, auc_without, interval, make_units

Mask = npt.NDArray[np.bool_]

ALARM = 0.05
"""Share of audits of classes that do not differ in which any pair may be accused on these descriptions."""
VISIBLE = 0.75
"""AUC of single cells from which a difference counts."""
CELL_FREE = (instrument.NOISE, instrument.GAIN)
"""Descriptions that cannot contain the cell, and can prove a shortcut."""
ACCUSING = (*CELL_FREE, instrument.FOCUS)
"""Descriptions that lead to a verdict."""
MODEL = "groups"
"""How evidence names the discriminant."""
_BATCH = 200
"""Deals of labels that are tried at a time."""


def judge_groups(sample: AuditSample, stage: Stage, pair: tuple[str, str], params: Audit) -> list[GroupEvidence]:
    """Return the evidence of each description; none where a class has fewer than MIN_GROUPS groups of its own."""
    rows = np.isin(sample.labels, pair)
    first, groups = sample.labels[rows] == pair[0], sample.groups[rows]
    place = np.unique(groups, return_inverse=True)[1]
    share = np.bincount(place, first) / np.bincount(place)
    pure = (share == 0) | (share == 1)
    kept = pure[place]
    if min((share == 0).sum(), (share == 1).sum()) < MIN_GROUPS or any(
        kept[first == one].mean() < 0.5 for one in (True, False)
    ):
        return []
    place, labels = np.unique(place[kept], return_inverse=True)[1], share[pure] == 1
    found = []
    channels = max(1, len(sample.by_channel))
    for description in sample.descriptions[stage]:
        kind = kind_of(description)
        if kind not in instrument.DESCRIPTIONS or (stage, kind) == ("normalised", instrument.GAIN):
            continue
        cells = sample.descriptions[stage][description][rows][kept]
        medians = np.stack([np.median(cells[place == group], 0) for group in range(len(labels))])
        found.append(_judge(description, medians, labels, cells, place, len(sample.classes), channels, params))
    return found


def _judge(
    description: str,
    medians: Floats,
    labels: Mask,
    cells: Floats,
    place: npt.NDArray[np.int64],
    classes: int,
    channels: int,
    params: Audit,
) -> GroupEvidence:
    """Judge (G, F) medians of groups with (G,) labels, and their (N, F) cells, each in the group `place`."""
    weights, offsets = _discriminants(medians, labels[None])
    scores = np.einsum("gf,gf->g", medians, weights[0]) - offsets[0]
    of_cells = np.einsum("nf,nf->n", cells, weights[0][place]) - offsets[0][place]
    units = make_units(np.arange(len(labels)).astype(str), labels.astype(str))
    area = interval(auc_without(scores, labels, units), units)
    visible = float(auc_without(of_cells, labels[place], make_units(place.astype(str), labels[place].astype(str)))[0])
    limit, kind = ALARM / (comb(classes, 2) * len(ACCUSING) * channels), kind_of(description)
    verdict: PairVerdict = "clean"
    p_value = None
    if kind in ACCUSING and area.low >= params.suspect_auc and visible >= VISIBLE:
        p_value = permutation_p(medians, labels, limit, params.seed)
        if p_value <= limit:
            proves = kind in CELL_FREE and area.low >= params.shortcut_auc
            verdict = "shortcut" if proves else "suspect"
    return GroupEvidence(
        description=description,
        model=MODEL,
        value=area.value,
        low=area.low,
        high=area.high,
        verdict=verdict,
        groups=int(min(labels.sum(), (~labels).sum())),
        cells=visible,
        p_value=p_value,
        smallest_p=smallest_p(labels),
        limit=limit,
    )


def smallest_p(labels: Mask) -> float:
    """Return the smallest p-value that (G,) labels of two classes allow."""
    ups, downs = int(labels.sum()), int((~labels).sum())
    # Where the classes are equally many, their exchange separates as well.
    return min(1.0, (2 if ups == downs else 1) / comb(ups + downs, ups))


def permutation_p(medians: Floats, labels: Mask, limit: float, seed: int) -> float:
    """Return the share of deals of (G,) labels that separate (G, F) medians as well as these.

    Of all deals where they are few, else of enough random ones to tell whether the share is below `limit`.
    """
    count, ups, enough = len(labels), int(labels.sum()), ceil(10 / limit)
    rng = np.random.default_rng(seed)
    if comb(count, ups) <= enough:
        deals = np.zeros((comb(count, ups), count), bool)
        for deal, chosen in zip(deals, combinations(range(count), ups), strict=True):
            deal[list(chosen)] = True
    else:
        deals = np.concatenate([labels[None], rng.permuted(np.tile(labels, (enough - 1, 1)), axis=1)])
    reached = np.concatenate([_areas(medians, deals[i : i + _BATCH]) for i in range(0, len(deals), _BATCH)])
    return float((reached >= _areas(medians, labels[None])[0] - 1e-9).mean())


def _areas(medians: Floats, deals: Mask) -> Floats:
    """Return the (P,) AUC of groups, each judged by the others, for (P, G) labels."""
    weights, offsets = _discriminants(medians, deals)
    scores = np.einsum("gf,pgf->pg", medians, weights) - offsets
    return np.array([_area(of_deal[labels], of_deal[~labels]) for of_deal, labels in zip(scores, deals, strict=True)])


def _area(ups: Floats, downs: Floats) -> float:
    differences = ups[:, None] - downs[None, :]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean())


def _discriminants(medians: Floats, deals: Mask) -> tuple[Floats, Floats]:
    """Return (P, G, F) weights and (P, G) offsets of the discriminant that each group is judged by.

    It knows all other groups, given (G, F) medians and (P, G) labels.
    """
    centred = medians - medians.mean(0)
    means, squares = [], np.zeros((len(deals), *medians.shape))
    for labels in (deals, ~deals):
        weights = labels.astype(float)
        counts = weights.sum(1)[:, None] - weights
        sums = (weights @ centred)[:, None] - weights[:, :, None] * centred
        powers = (weights @ centred**2)[:, None] - weights[:, :, None] * centred**2
        mean = sums / counts[:, :, None]
        means.append(mean)
        squares += powers - counts[:, :, None] * mean**2
    variances = squares / (len(medians) - 3)
    floor = 1e-9 * np.maximum(centred.var(0), 1e-12)
    weights = (means[0] - means[1]) / np.maximum(variances, floor)
    middles = (means[0] + means[1]) / 2 + medians.mean(0)
    offsets: Floats = (weights * middles).sum(2)
    return weights, offsets
