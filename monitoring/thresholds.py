"""Thresholds that windows of like cells stay below, from drawn windows and from the binomial distribution."""

import numpy as np
from scipy.stats import beta, binom

from monitoring.statistics import MIN_SHARE, TAIL, VERDICT_RATES, Floats

ALPHA = 0.01
"""Share of windows of like cells, or of runs like those that are known, that raise a false alarm, at most."""
LEVEL_OF_RUNS = ALPHA / 2
"""Share of drawn windows of unseen runs above their limit: what few groups say of runs is not exact."""
CONCENTRATIONS = (0.09, 0.18, 0.35, 0.7)
"""Between windows of 16, 8, 4 and 2 runs, and one run; `monitoring.lamps` says of what."""
_LEAST_DRAWS = 200
"""Draws from which a threshold is computed; of fewer, those for windows that are more concentrated hold."""


def joint_thresholds(values: Floats, level: float) -> Floats:
    """Return the (S,) thresholds below which all of (D, S) statistics stay in all but the share `level` of D draws."""
    ordered = np.sort(values, axis=0)
    # The same quantile of every statistic: the lowest at which few enough draws exceed any threshold.
    for rank in range(int(len(values) * (1 - level)) - 1, len(values)):
        quantile = ordered[rank]
        if (values > quantile).any(1).mean() <= level:
            break
    thresholds: Floats = quantile + 1e-9
    return thresholds


def by_concentration(values: Floats, concentrations: Floats) -> list[Floats]:
    """Return the (S,) joint thresholds of (D, S) draws between CONCENTRATIONS, the least concentrated first."""
    places, rows = np.digitize(concentrations, CONCENTRATIONS), list[Floats]()
    for place in reversed(range(len(CONCENTRATIONS) + 1)):
        chosen = places == place
        if not rows or chosen.sum() >= _LEAST_DRAWS:
            row = joint_thresholds(values[chosen] if chosen.sum() >= _LEAST_DRAWS else values, LEVEL_OF_RUNS)
        # More runs differ less.
        rows.insert(0, np.minimum(row, rows[0]) if rows else row)
    return rows


def floor(statistic: str, window: int, unseen: int, verdict_rates: Floats) -> float:
    """Return the value that chance alone gives a statistic that rests on a share of cells; 0 for other statistics.

    `window` is the number of cells in the window, `unseen` that of the reference cells that the model was not fitted
    on, which have the (len(VERDICT_RATES),) `verdict_rates`. Without a floor, a single cell of another value raises an
    alarm where all cells of the reference have the same.
    """
    if statistic.startswith(("outside_", "ks_", "psi_")):
        rate, offset = 2 * TAIL, 0.0
    elif statistic in VERDICT_RATES:
        rate = offset = float(verdict_rates[list(VERDICT_RATES).index(statistic)])
    else:
        return 0.0
    # The upper limit of the true rate (Clopper and Pearson 1934), then of the rate in a window.
    highest = float(beta.ppf(1 - ALPHA, rate * unseen + 1, unseen - rate * unseen))
    share = float(binom.ppf(1 - ALPHA / 10, window, highest)) / window - offset
    if statistic.startswith("psi_"):
        # What such a share adds to a bin that was empty.
        return max(0.0, (share - MIN_SHARE) * float(np.log(max(share, MIN_SHARE) / MIN_SHARE)))
    return share
