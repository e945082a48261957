"""Thresholds that windows of like cells stay below, from drawn windows and from the binomial distribution."""

import numpy as np
from scipy.stats import beta, binom

from monitoring.statistics import MIN_SHARE, TAIL, VERDICT_RATES, Floats

ALPHA = 0.01
"""Share of windows of like cells, or of runs like those that are known, that raise a false alarm, at most."""
LEVEL_OF_RUNS = ALPHA / 4
"""Share of drawn windows of unseen runs above their limit: what few groups say of runs is not exact."""
CONCENTRATIONS = (0.09, 0.18, 0.35, 0.7)
"""Between windows of 16, 8, 4 and 2 runs, and one run; `monitoring.lamps` says of what."""
_LEAST_DRAWS = 100
"""Draws of one number of runs from which a limit is computed: one in twenty of them."""


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


def by_concentration(drawn: list[tuple[Floats, Floats]]) -> list[Floats]:
    """Return the (S,) limits between CONCENTRATIONS, the least concentrated windows first.

    `drawn` has for each number of runs the (D,) concentrations of windows and their (D, S) statistics. A limit holds
    for any number of runs that may have such a window.
    """
    rows = list[Floats]()
    for place in range(len(CONCENTRATIONS) + 1):
        chosen = [values[np.digitize(each, CONCENTRATIONS) == place] for each, values in drawn]
        limits = [joint_thresholds(values, LEVEL_OF_RUNS) for values in chosen if len(values) >= _LEAST_DRAWS]
        # Fewer runs differ more.
        rows.append(np.max([*limits, *rows[-1:]], axis=0) if limits or rows else np.zeros(drawn[0][1].shape[1]))
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
    share = share_by_chance(rate, window, unseen) - offset
    if statistic.startswith("psi_"):
        # What such a share adds to a bin that was empty.
        return max(0.0, (share - MIN_SHARE) * float(np.log(max(share, MIN_SHARE) / MIN_SHARE)))
    return share


def share_by_chance(rate: float, window: int, known: int) -> float:
    """Return the share of `window` cells that chance alone may give something that has this rate in `known` cells."""
    # The upper limit of the true rate (Clopper and Pearson 1934), then of the rate in a window.
    highest = float(beta.ppf(1 - ALPHA, rate * known + 1, known - rate * known))
    return float(binom.ppf(1 - ALPHA / 10, window, highest)) / window
