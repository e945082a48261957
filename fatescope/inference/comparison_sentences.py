"""What a comparison of cultures says, in the words of the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from fatescope import plural
from fatescope.inference.comparison import Estimate

_WHOLE = 0.01
"""Differences below it, one percentage point, are written with a decimal."""


def cells_of(name: str) -> str:
    """Return what cells of a class are called: astrocytes, RA/SHH cells."""
    return f"{name}s" if name.isalpha() and name.islower() and not name.endswith("s") else f"{name} cells"


def number(value: float) -> str:
    """Return a day or a dose as it is written: 3, 0.5."""
    return f"{value:.10g}"


def join(words: Sequence[str]) -> str:
    """Join words: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def places(axis: str, values: Sequence[float], unit: str = "") -> str:
    """Return days or doses with what they are: day 3, days 3 and 5, doses 3 and 10, 3 and 10 µM."""
    numbers = join([number(value) for value in values])
    return (
        f"{numbers} {unit}" if axis == "dose" and unit else f"{plural.agree(len(values), axis, f'{axis}s')} {numbers}"
    )


def place(day: float | None, dose: float | None, unit: str = "") -> str:
    """Return where a difference was found, `Day 3, 10 µM: `; empty where there is neither."""
    parts = [places(axis, [value], unit) for axis, value in (("day", day), ("dose", dose)) if value is not None]
    text = ", ".join(parts)
    # Not `capitalize`, which makes another unit of µM.
    return f"{text[0].upper()}{text[1:]}: " if text else ""


def difference(condition: str, reference: str, name: str, estimate: Estimate) -> str:
    """Return the sentence about one class in two conditions."""
    cells, size = cells_of(name), _points(abs(estimate.difference))
    direction = _direction(estimate.difference)
    if estimate.low is None or estimate.high is None:
        return f"{condition} has {size} {direction} {cells} than {reference}, which may be chance."
    if not estimate.differs:
        ends = f"{_signed(estimate.low)} to {_signed(estimate.high)}"
        apart = f"{condition} and {reference} cannot be told apart by their {cells}"
        return f"{apart}: {condition} has {size} {direction} ({ends})."
    near, far = sorted(map(abs, (estimate.low, estimate.high)))
    return f"{condition} has {size} {direction} {cells} than {reference} ({_bare(near)} to {_bare(far)})."


def one_replicate(condition: str, reference: str, replicates: tuple[int, int]) -> str:
    """Return why there is neither an interval nor a p-value."""
    single = [name for name, count in zip((condition, reference), replicates, strict=True) if count == 1]
    return (
        f"No interval and no p-value: {join(single)} {'has' if len(single) == 1 else 'have'} one replicate, and more "
        "cells of one culture do not tell how cultures differ. Record at least three of each condition."
    )


def nothing_in_common(condition: str, reference: str) -> str:
    """Return why conditions that were recorded on other days or at other doses are not compared."""
    return (
        f"No interval and no p-value: {condition} and {reference} have no day and dose in common, so that a difference "
        "may be that of the days. Record both on the same day."
    )


@dataclass(frozen=True)
class Step:
    """A day or a dose at which a condition was compared with another one, or with its own first day."""

    x: float
    difference: float
    differs: bool


def course(
    axis: str, condition: str, other: str | float, name: str, steps: Sequence[Step], unit: str = ""
) -> str | None:
    """Return from which day (or dose) on a condition differs; None where nothing could be tested.

    `axis` is day or dose, `other` the reference condition, or the first day of the condition itself, and `unit` that of
    the doses, where it is known.
    """
    if not steps:
        return None

    def at(*values: float) -> str:
        return f"{'on' if axis == 'day' else 'at'} {places(axis, values, unit)}"

    cells = cells_of(name)
    first = next((step for i, step in enumerate(steps) if all(later.differs for later in steps[i:])), None)
    beside = other if isinstance(other, str) else at(other)
    if first is not None:
        directions = {_direction(step.difference) for step in steps if step.x >= first.x}
        amount = directions.pop() if len(directions) == 1 else "another share of"
        return f"From {places(axis, [first.x], unit)} on, {condition} has {amount} {cells} than {beside}."
    alike, differing = ([step.x for step in steps if step.differs == differs] for differs in (False, True))
    if isinstance(other, str):
        same = f"{condition} cannot be told from {other} by its {cells} {at(*alike)}"
    else:
        same = f"By its {cells}, {condition} {at(*alike)} cannot be told from {condition} {beside}"
    return f"{same}; it can {at(*differing)}." if differing else f"{same}."


def _points(share: float) -> str:
    """Return a difference of shares, which `20 % more` would not tell from a fifth more of them."""
    points = _bare(share)
    return f"{points} percentage point{'' if points == '1' else 's'}"


def _bare(share: float) -> str:
    return f"{share * 100:.1f}" if 0 < share < _WHOLE else f"{share * 100:.0f}"


def _signed(share: float) -> str:
    return f"{_bare(abs(share))} {_direction(share)}"


def _direction(change: float) -> str:
    return "fewer" if change < 0 else "more"
