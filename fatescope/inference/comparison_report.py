"""All that is said of a set of cultures: differences from a reference condition, and days and doses as curves.

Days and doses are never mixed: conditions are compared where both have samples of the same day and dose. A sample
without a dose, or of dose 0, is a control for every dose of its day.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal

import numpy as np

from fatescope.inference import comparison, comparison_sentences
from fatescope.inference.comparison import Estimate, Floats, Sample, Units
from fatescope.inference.comparison_sentences import Step

Axis = Literal["day", "dose"]
AXES: tuple[Axis, ...] = ("day", "dose")


@dataclass(frozen=True)
class Question:
    """What cultures are asked."""

    classes: list[str]
    error: Floats
    """(K, K) `Spec.composition_error`."""
    reference: str
    """The condition that others are compared with."""
    unit: str = ""
    """Of the doses, for the sentences; empty where it is not known."""


@dataclass(frozen=True)
class Difference:
    """The difference of the share of a class between a condition and the reference, on a day and at a dose."""

    condition: str
    reference: str
    name: str
    """Of the class."""
    day: float | None
    dose: float | None
    estimate: Estimate
    sentence: str
    why_not: str | None
    """Why there is no interval."""


@dataclass(frozen=True)
class Point:
    """The mean share of a class over the replicates of a day or a dose."""

    x: float
    share: float
    low: float | None
    high: float | None
    replicates: int


@dataclass(frozen=True)
class Curve:
    """The share of a class in a condition over days, or over doses."""

    axis: Axis
    condition: str
    at: float | None
    """The dose of a curve over days, the day of one over doses."""
    name: str
    """Of the class."""
    points: list[Point]
    sentence: str | None
    """From which day or dose on there is a difference."""


@dataclass(frozen=True)
class _Place:
    """Where a curve lies."""

    axis: Axis
    condition: str
    at: float | None
    steps: list[tuple[float, list[Sample]]]


def differences(samples: Sequence[Sample], question: Question) -> list[Difference]:
    """Return how each condition differs from the reference, by class, day and dose; see `comparison.compare`."""
    rows: list[Difference] = []
    for condition in _conditions(samples):
        if condition != question.reference:
            rows += _against(samples, question, condition)
    return rows


def curves(samples: Sequence[Sample], question: Question, found: Sequence[Difference]) -> list[Curve]:
    """Return the curves over days and over doses, wherever a condition has two or more of them.

    `found` are the differences between conditions, which tell from which day on a condition differs from the reference.
    The reference itself, and every curve over doses, is compared with its own first day or lowest dose.
    """
    rows: list[Curve] = []
    for condition in _conditions(samples):
        own = [sample for sample in samples if sample.condition == condition]
        for axis in AXES:
            other: Axis = "dose" if axis == "day" else "day"
            for at in sorted({getattr(sample, other) for sample in own}, key=_order):
                chosen = [s for s in own if getattr(s, other) == at and getattr(s, axis) is not None]
                steps = [(x, list(part)) for x, part in groupby(sorted(chosen, key=attrgetter(axis)), attrgetter(axis))]
                if len(steps) > 1:
                    against = [d for d in found if (d.condition, getattr(d, other)) == (condition, at)]
                    rows += _trace(_Place(axis, condition, at, steps), question, against)
    return rows


def _conditions(samples: Iterable[Sample]) -> list[str]:
    """Return the conditions in the order in which they come."""
    return list(dict.fromkeys(sample.condition for sample in samples))


def _order(value: float | None) -> float:
    return -np.inf if value is None else value


def _against(samples: Sequence[Sample], question: Question, condition: str) -> Iterator[Difference]:
    classes, reference = question.classes, question.reference
    first, second = ([s for s in samples if s.condition == name] for name in (condition, reference))
    places = sorted({(s.day, s.dose) for s in first}, key=lambda place: (_order(place[0]), _order(place[1])))
    matched = False
    for day, dose in places:
        here, control = [s for s in first if (s.day, s.dose) == (day, dose)], _controls(second, day, dose)
        if control:
            matched = True
            for name, estimate in zip(classes, comparison.compare(here, control, question.error), strict=True):
                where = comparison_sentences.place(day, dose, question.unit) if len(places) > 1 else ""
                yield _describe(condition, reference, name, day, dose, estimate, where)
    if not matched:
        why = comparison_sentences.nothing_in_common(condition, reference)
        means = [comparison.to_units(side) for side in (first, second)]
        deltas = means[0].shown.mean(0) - means[1].shown.mean(0)
        for name, delta in zip(classes, deltas, strict=True):
            estimate = Estimate(float(delta), replicates=(len(means[0]), len(means[1])))
            sentence = comparison_sentences.difference(condition, reference, name, estimate)
            yield Difference(condition, reference, name, None, None, estimate, sentence, why)


def _controls(reference: Sequence[Sample], day: float | None, dose: float | None) -> list[Sample]:
    """Return the samples of the reference to compare with on a day and at a dose."""
    of_day = [sample for sample in reference if sample.day == day]
    same = [sample for sample in of_day if sample.dose == dose]
    return same or [sample for sample in of_day if not sample.dose]


def _describe(
    condition: str, reference: str, name: str, day: float | None, dose: float | None, estimate: Estimate, where: str
) -> Difference:
    sentence = where + comparison_sentences.difference(condition, reference, name, estimate)
    why_not = None
    if estimate.low is None:
        why_not = comparison_sentences.one_replicate(condition, reference, estimate.replicates)
    return Difference(condition, reference, name, day, dose, estimate, sentence, why_not)


def _trace(place: _Place, question: Question, found: Sequence[Difference]) -> Iterator[Curve]:
    axis, condition, steps = place.axis, place.condition, place.steps
    units = [(x, comparison.to_units(part)) for x, part in steps]
    start = steps[0]
    by_reference = axis == "day" and condition != question.reference
    error = question.error
    own = [] if by_reference else [comparison.compare(part, start[1], error) for _, part in steps[1:]]
    for k, name in enumerate(question.classes):
        points = [_point(x, unit, error, k) for x, unit in units]
        if by_reference:
            tested = [(d.day, d.estimate) for d in found if d.name == name and d.day is not None]
        else:
            tested = [(x, row[k]) for (x, _), row in zip(steps[1:], own, strict=True)]
        other = question.reference if by_reference else start[0]
        sentence = comparison_sentences.course(axis, condition, other, name, _decide(tested), question.unit)
        yield Curve(axis, condition, place.at, name, points, sentence)


def _point(x: float, units: Units, error: Floats, k: int) -> Point:
    share, ends = float(units.shown[:, k].mean()), comparison.interval_of_mean(units, error)
    if ends is None:
        return Point(x, share, None, None, len(units))
    return Point(x, share, min(share, float(ends[0][k])), max(share, float(ends[1][k])), len(units))


def _decide(tested: Sequence[tuple[float, Estimate]]) -> list[Step]:
    """Return at which steps there is a difference, such that any is wrong with a chance of 5 % at most (Holm 1979)."""
    steps = [(x, estimate, estimate.p_value) for x, estimate in tested if estimate.p_value is not None]
    level, rejected = 1 - comparison.LEVEL, set[float]()
    for rank, (x, _, p_value) in enumerate(sorted(steps, key=lambda step: step[2])):
        if p_value * (len(steps) - rank) > level:
            break
        rejected.add(x)
    return [Step(x, estimate.difference, x in rejected) for x, estimate, _ in steps]
