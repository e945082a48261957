"""Student's t without SciPy, which the library does without: the chance of its tails, and its quantiles."""

import math

_STEPS, _EXACT = 500, 1e-14
"""Most steps of the continued fraction, and the relative change at which it ends."""
_TINY = 1e-300
_WIDTH = 1e-11
"""Relative width of what a quantile is known to lie in."""


def tails(t: float, freedom: float) -> float:
    """Return the chance that Student's t of `freedom` > 0 degrees is at least as far from 0 as `t`."""
    if math.isinf(t):
        return 0.0
    square = t * t
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + square), square / (freedom + square))


def quantile(freedom: float, level: float) -> float:
    """Return the value that Student's t of `freedom` degrees stays below on both sides with the chance `level`."""
    low, high = 0.0, 1.0
    while tails(high, freedom) > 1 - level:
        low, high = high, 2 * high
    value = (low + high) / 2
    # By the slope of the tails (Newton), which takes a tenth of the steps of halving; a comparison asks for thousands.
    while high - low > _WIDTH * high:
        beyond = tails(value, freedom) - (1 - level)
        low, high = (value, high) if beyond > 0 else (low, value)
        step = beyond / (2 * _density(value, freedom))
        if abs(step) < _WIDTH * value / 2:
            return value + step
        value = value + step if low < value + step < high else (low + high) / 2
    return high


def _density(t: float, freedom: float) -> float:
    height = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    return math.exp(height - (freedom + 1) / 2 * math.log1p(t * t / freedom))


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """Return the regularised incomplete beta function at `x`; `rest` is 1 - x, exact where x is close to 1."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest))
    # The fraction converges fast on this side of the mean alone.
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, rest) / b


def _fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of the incomplete beta function, by the method of Lentz (1976)."""
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away(1 + term * d)
            c = _away(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _EXACT:
            break
    return value


def _away(value: float) -> float:
    """Return a value that can be divided by."""
    return value if abs(value) > _TINY else _TINY
