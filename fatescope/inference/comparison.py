"""Whether cultures differ: the differences of class shares between conditions, from replicates.

The unit is the replicate (or the donor), never the cell: ten thousand cells of one culture say nothing about another
culture of the same condition. Three errors are kept apart, and each counts once:

- what differs from replicate to replicate, by biology, by run and by the number of cells, is seen in their scatter;
- the number of cells alone gives a variance that the scatter of few replicates may miss; it is a floor under it;
- what is wrong with the classifier in the same way on both sides (`Spec.composition_error`) cancels where shares are
  equal, and stretches or shrinks a difference where they are not. It is no reason to doubt *that* there is a
  difference, but one to doubt how large it is. So it grows with the difference that is tried, and the interval has all
  differences that the data do not contradict (Fieller 1954): longer away from zero, and without zero just where the
  p-value is below 5 %.

The scatter of a share is smaller near 0 and 1. One factor of it is estimated from both sides, as in the quasi-binomial
model (McCullagh and Nelder 1989), so that three replicates against three have four degrees of freedom.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fatescope.inference import student

Floats = npt.NDArray[np.floating]
LEVEL = 0.95
_Z = 1.96
_FLAT = 0.05
"""Added to s (1 - s), the scatter of a share s in units: pure cultures scatter too, since runs differ."""
_LEAST_SEEN = 0.05
"""Share of a variance below which what the scatter adds to it makes no difference to Student's t."""
MIN_DONORS = 2
"""Donors on both sides from which a comparison is made within donors."""


@dataclass(frozen=True)
class Sample:
    """The cells of one culture."""

    name: str
    condition: str
    shares: Floats
    """(K,) class shares; beyond 0 and 1 by what an estimate within them would cut off (`MeanComposition.solve`)."""
    chance: Floats
    """(K,) their variances by the number of cells alone."""
    replicate: str | None = None
    """Samples of a condition with the same one are parts of one culture; without one, each sample is a culture."""
    day: float | None = None
    dose: float | None = None
    donor: str | None = None
    shown: Floats | None = None
    """(K,) class shares within 0 and 1, as people see them; None: those of `shares`, clipped."""


@dataclass(frozen=True)
class Units:
    """The independent units of one side: replicates, or donors."""

    shares: Floats
    """(n, K)."""
    chance: Floats
    """(n, K) variances by the number of cells alone."""
    shown: Floats
    """(n, K) shares within 0 and 1."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.shares)


@dataclass(frozen=True)
class Estimate:
    """The difference of a share between two conditions, with a 95 % interval where replicates allow one."""

    difference: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    replicates: tuple[int, int] = (1, 1)
    """Units of the condition and of its reference."""
    pairs: int | None = None
    """Donors within which it is made; None where sides are compared as wholes."""

    @property
    def differs(self) -> bool:
        """Return whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def compare(first: Sequence[Sample], second: Sequence[Sample], error: Floats) -> list[Estimate]:
    """Return for each class the share in the samples `first` less that in `second`; each has one sample at least.

    `error` (K, K) is `Spec.composition_error`. Donors who are on both sides are compared with themselves.
    """
    donors = [{sample.donor for sample in side} for side in (first, second)]
    common = sorted(donor for donor in donors[0] & donors[1] if donor is not None)
    if None not in donors[0] | donors[1] and len(common) >= MIN_DONORS:
        return _compare_pairs(_of_donors(first, common), _of_donors(second, common), error)
    # Several samples of a donor are one unit, unless all are of one donor: they then speak for that donor alone.
    by_donor = all(None not in names and len(names) > 1 for names in donors)
    key = _donor if by_donor else _culture
    return _compare_sides(to_units(first, key), to_units(second, key), error)


def to_units(samples: Sequence[Sample], key: Callable[[Sample], object] | None = None) -> Units:
    """Return the units among samples of one condition, by default its replicates: the mean of the samples of each."""
    members: dict[object, list[Sample]] = {}
    for sample in samples:
        members.setdefault((key or _culture)(sample), []).append(sample)
    shares = [np.mean([sample.shares for sample in unit], axis=0) for unit in members.values()]
    chance = [np.sum([sample.chance for sample in unit], axis=0) / len(unit) ** 2 for unit in members.values()]
    shown = [np.mean([_shown(sample) for sample in unit], axis=0) for unit in members.values()]
    return Units(np.array(shares), np.array(chance), np.array(shown))


def interval_of_mean(units: Units, error: Floats) -> tuple[Floats, Floats] | None:
    """Return the (K,) ends of the intervals of the mean shares of a condition; None for a single unit."""
    if len(units) < 2:
        return None
    variance = np.maximum(units.shares.var(0, ddof=1) / len(units), units.chance.sum(0) / len(units) ** 2)
    half = np.sqrt(_quantile(len(units) - 1) ** 2 * variance + _Z**2 * np.diag(error))
    mean = units.shares.mean(0)
    return np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)


def _shown(sample: Sample) -> Floats:
    return np.clip(sample.shares, 0, 1) if sample.shown is None else sample.shown


def _donor(sample: Sample) -> object:
    return sample.donor


def _culture(sample: Sample) -> object:
    return object() if sample.replicate is None else (sample.donor, sample.replicate)


def _of_donors(samples: Sequence[Sample], donors: list[str]) -> Units:
    """Return the units of `donors`, in that order."""
    return to_units(sorted((s for s in samples if s.donor in donors), key=lambda s: donors.index(str(s.donor))), _donor)


def _compare_sides(first: Units, second: Units, error: Floats) -> list[Estimate]:
    count = (len(first), len(second))
    deltas, shown = first.shares.mean(0) - second.shares.mean(0), first.shown.mean(0) - second.shown.mean(0)
    if min(count) < 2:
        return [Estimate(float(delta), replicates=count) for delta in shown]
    freedom = sum(count) - 2
    means = [np.clip(units.shares.mean(0), 0, 1) for units in (first, second)]
    expected = [mean * (1 - mean) + _FLAT for mean in means]
    factor = sum(
        units.shares.var(0, ddof=1) * (len(units) - 1) / scale
        for units, scale in zip((first, second), expected, strict=True)
    )
    scatter = factor / freedom * (expected[0] / count[0] + expected[1] / count[1])
    floor = first.chance.sum(0) / count[0] ** 2 + second.chance.sum(0) / count[1] ** 2
    return _show(_conclude(deltas, scatter, floor, freedom, error, count, None), shown)


def _compare_pairs(first: Units, second: Units, error: Floats) -> list[Estimate]:
    count = len(first)
    deltas = first.shares - second.shares
    floor = (first.chance + second.chance).sum(0) / count**2
    scatter = deltas.var(0, ddof=1) / count
    found = _conclude(deltas.mean(0), scatter, floor, count - 1, error, (count, count), count)
    return _show(found, (first.shown - second.shown).mean(0))


def _show(estimates: list[Estimate], shown: Floats) -> list[Estimate]:
    """Return estimates whose differences are those of the shares that people see beside them, within the intervals."""
    return [
        replace(estimate, difference=float(np.clip(delta, estimate.low, estimate.high)))
        for estimate, delta in zip(estimates, shown, strict=True)
    ]


def _conclude(
    deltas: Floats,
    scatter: Floats,
    floor: Floats,
    freedom: int,
    error: Floats,
    count: tuple[int, int],
    pairs: int | None,
) -> list[Estimate]:
    """Return the estimates of (K,) differences.

    Their variances by `scatter` have `freedom` degrees of freedom and are at least `floor`.
    """
    estimates = []
    for k, delta in enumerate(map(float, deltas)):
        growing, fixed = _error_of_difference(deltas, k, error)
        seen = float(scatter[k])
        total = max(seen, float(floor[k])) + fixed
        # Of the sum, one part alone is estimated from few replicates (Satterthwaite 1946).
        effective = freedom * (total / max(seen, _LEAST_SEEN * total)) ** 2
        low, high = _interval(delta, _quantile(effective) ** 2 * total, _Z**2 * growing)
        p_value = student.tails(delta / total**0.5, effective)
        estimates.append(Estimate(delta, low, high, p_value, count, pairs))
    return estimates


def _possible(delta: float) -> float:
    """Cut off a difference where there can be none: shares are estimated beyond 0 and 1."""
    return min(1.0, max(-1.0, float(delta)))


def _error_of_difference(deltas: Floats, k: int, error: Floats) -> tuple[float, float]:
    """Return the variance that the classifier adds to the difference of class k: of each unit of its square, and fixed.

    The error of a culture with shares s is D s, where the columns of D are the errors of pure cultures, independent of
    each other; over all compositions, its mean square `error` is 2 / (K + 1) of the mean of theirs. That of a
    difference d is D d: each class adds its square. What the other classes add depends on the difference of class k
    as far as they make up for it, in equal parts; the rest is taken as it is estimated.
    """
    size = len(deltas)
    of_pure = float(error[k, k]) * (size + 1) / 2
    others = np.delete(deltas, k) + deltas[k] / (size - 1)
    return of_pure * size / (size - 1), of_pure * float((others**2).sum())


def _interval(delta: float, square: float, growing: float) -> tuple[float, float]:
    """Return the least and the largest difference x in [-1, 1] with (delta - x)^2 <= square + growing x^2."""
    # Zero is in it just where delta^2 <= square.
    lead, rest = 1 - growing, delta**2 - square
    if lead <= 0:
        if rest <= 0:
            return -1.0, 1.0
        # So bad a classifier tells the sign and a least size, no largest one.
        edge = rest / (abs(delta) + (delta**2 - lead * rest) ** 0.5)
        return (min(edge, 1.0), 1.0) if delta > 0 else (-1.0, max(-edge, -1.0))
    root = (delta**2 - lead * rest) ** 0.5
    return _possible((delta - root) / lead), _possible((delta + root) / lead)


@lru_cache(maxsize=1024)
def _quantile(freedom: float) -> float:
    return student.quantile(freedom, LEVEL)
