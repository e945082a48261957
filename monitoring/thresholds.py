"""Thresholds that windows of like cells stay below, from drawn windows and from the binomial distribution."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, binom

from monitoring.statistics import MIN_SHARE, TAIL, VERDICT_RATES, Floats

ALPHA = 0.01
"""Share of windows of like cells, or of runs like those that are known, that raise a false alarm, at most."""
LEVEL = ALPHA / 4
"""Share of the drawn windows above a threshold: runs are known from few groups, and an exporter looks again and again."""
_CONCENTRATIONS = (0.09, 0.18, 0.35, 0.7)
"""Between windows of 1, 2, 4, 8 and 16 runs."""
_LEAST_DRAWS = 200
"""Draws from which a threshold is computed; of fewer, those for windows that are more concentrated hold."""


def joint_thresholds(values: Floats) -> Floats:
    """Return the (S,) thresholds below which all of (D, S) statistics stay in all but LEVEL of the D draws."""
    ordered = np.sort(values, axis=0)
    # The same quantile of every statistic: the lowest at which few enough draws exceed any threshold.
    for rank in range(int(len(values) * (1 - LEVEL)) - 1, len(values)):
        quantile = ordered[rank]
        if (values > quantile).any(1).mean() <= LEVEL:
            break
    thresholds: Floats = quantile + 1e-9
    return thresholds


@dataclass(frozen=True)
class Table:
    """Thresholds for windows of one size, by how concentrated they are."""

    names: list[str]
    rows: list[Floats]
    """(S,) thresholds, the least concentrated windows first."""

    @classmethod
    def of(cls, names: list[str], values: Floats, concentrations: Floats, more: list[str], constant: Floats) -> "Table":
        """Compute from (D, S) drawn values and their (D,) concentrations; `more` have `constant` thresholds."""
        places, rows = np.digitize(concentrations, _CONCENTRATIONS), list[Floats]()
        for place in reversed(range(len(_CONCENTRATIONS) + 1)):
            chosen = places == place
            if not rows or chosen.sum() >= _LEAST_DRAWS:
                row = joint_thresholds(values[chosen] if chosen.sum() >= _LEAST_DRAWS else values)
            # Fewer runs differ more.
            rows.insert(0, np.minimum(row, rows[0]) if rows else row)
        return cls([*names, *more], [np.concatenate([row, constant]) for row in rows])

    def thresholds(self, concentration: float) -> Floats:
        """Return the (S,) thresholds for windows of that concentration."""
        return self.rows[int(np.digitize(concentration, _CONCENTRATIONS))]


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
