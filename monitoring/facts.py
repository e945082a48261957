"""What the files of a window say of their acquisition, beside what those of the reference say.

The statistic `fact_FACT` is the share of cells, among those of which a file says it, whose value is new: of a setting
(instrument, magnification), one that no cell of the training had; of a number (power of the lamp, flow speed, mean
background), one outside the range that another run may have: where the mean of one more run lies, as far as the known
ones tell (`run_effects.find_edges`), with its cells about it, and never less than TOLERANCE beyond the known runs. Its
threshold is what chance alone puts outside. What the model does not see (software, background of other channels) is
reported, and raises no alarm.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fatescope.data.acquisition_facts import BACKGROUND, KNOWN, PREFIX, SETTINGS, columns_of
from fatescope.data.features import further_channels
from monitoring.findings import ACQUISITION, INPUT, MIN_CELLS, Finding
from monitoring.run_effects import find_edges
from monitoring.statistics import TAIL, Floats, Rows
from monitoring.thresholds import LEVEL_OF_RUNS, share_by_chance

TOLERANCE = 0.05
"""Part of its value by which a number may differ from all known runs: a few runs of one day are too much alike."""
_SHOWN = 5
"""Values that are shown."""
_LONGEST = 60
"""Characters of a text of a file that are shown."""
_UNITS = {"magnification": "x", "brightfield_power_w": " W", "flow_speed": " mm/s", BACKGROUND: " counts"}
_NAMES = {"brightfield_power_w": "brightfield power", BACKGROUND: "background of the brightfield"}
_UNUSUAL = re.compile(r"[^\w .,:;+()/#-]")
"""A text comes from a file, and goes into pages, Markdown and logs."""


@dataclass(frozen=True)
class KnownFact:
    """A fact as the runs of a reference have it."""

    name: str
    cells: int
    """Of the reference, that have it."""
    values: tuple[str | float, ...]
    """Of a setting, all that are known; of a number, the least and the largest of the runs."""
    low: float = 0.0
    """From here on a number is one that another run may have."""
    high: float = 0.0
    kind: str = INPUT

    def judge(self, window: pd.DataFrame) -> Finding | None:
        """Return the finding about a window, None where too few cells have the fact."""
        found = _read(window, self.name)
        if len(found) < MIN_CELLS:
            return None
        if self.name in SETTINGS:
            new = ~found.isin(self.values).to_numpy()
        else:
            new = ((found < self.low) | (found > self.high)).to_numpy()
        threshold = share_by_chance(2 * TAIL, len(found), self.cells)
        share = float(new.mean())
        shown = found[new] if share > threshold else found
        return Finding(f"fact_{self.name}", share, threshold, self.kind, self._words(shown))

    def _words(self, found: "pd.Series[float]") -> str:
        """Return what a window has and what is known: `magnification 40x, known: 20x, 60x`."""
        show = _listed if self.name in SETTINGS else _spanned
        values = found.value_counts().index if self.name in SETTINGS else found.quantile([TAIL, 0.5, 1 - TAIL])
        name = _NAMES.get(self.name, self.name.replace(f"{BACKGROUND}_", "background of channel ").replace("_", " "))
        unit = _UNITS.get(BACKGROUND if self.name.startswith(BACKGROUND) else self.name, "")
        return f"{name} {show(list(values), unit)}, known: {show(self.values, unit)}"


def know_facts(reference: pd.DataFrame, find_groups: Callable[[pd.DataFrame], list[Rows]]) -> list[KnownFact]:
    """Return the facts that a reference has; `find_groups` returns the rows of its groups that are large enough.

    None of one that was made before it had facts, or of files that say none.
    """
    stated, reference = reference.attrs.get(KNOWN, {}), reference.reset_index(drop=True)
    names = [column.removeprefix(PREFIX) for column in columns_of(reference)]
    numbers = [name for name in names if name not in SETTINGS]
    seen = {f"{BACKGROUND}_{channel}" for channel in further_channels(reference.columns)}
    facts = list[KnownFact]()
    for name in names:
        found, known = _read(reference, name), stated.get(name, [])
        if found.empty:
            continue
        of_channel = name.startswith(f"{BACKGROUND}_") and name not in seen
        kind = ACQUISITION if of_channel or name == "software" else INPUT
        if name in SETTINGS:
            values = sorted({*known, *found.unique().tolist()})
            facts.append(KnownFact(name, len(found), tuple(values), kind=kind))
            continue
        groups = find_groups(reference.loc[found.index])
        # All numbers together are outside as often as one statistic is.
        facts.append(_know_number(name, found.to_numpy(float), groups, known, LEVEL_OF_RUNS / len(numbers), kind))
    return facts


def _know_number(
    name: str, values: Floats, groups: list[Rows], known: Sequence[float], level: float, kind: str
) -> KnownFact:
    """Return a number of (n,) cells in groups of these rows; `known` has its least and largest of all runs, if any."""
    medians = [float(np.median(values[rows])) for rows in groups]
    least, largest = min([*medians, *known[:1]]), max([*medians, *known[1:]])
    edges = find_edges(values[:, None], groups, level)[0]
    ends = np.stack([np.quantile(values[rows], [TAIL, 1 - TAIL], method="inverted_cdf") for rows in groups])
    # Of the run that varies most, so that each of the known ones is inside.
    below, above = (ends[:, 0] - medians).min(), (ends[:, 1] - medians).max()
    low = min(edges[0], least + min(below, -TOLERANCE * abs(least)))
    high = max(edges[-1], largest + max(above, TOLERANCE * abs(largest)))
    return KnownFact(name, len(values), (least, largest), float(low), float(high), kind)


def _read(table: pd.DataFrame, name: str) -> "pd.Series[float]":
    """Return the values of a fact, of those cells that have it; no file says an infinite number."""
    if (column := PREFIX + name) not in table:
        return pd.Series(dtype=float)
    known = table[column].dropna()
    return known if name in SETTINGS and known.dtype != float else known[np.isfinite(known.to_numpy(float))]


def _listed(values: Sequence[str | float], unit: str) -> str:
    shown = [
        f"{value:g}{unit}" if isinstance(value, float) else _UNUSUAL.sub("?", value)[:_LONGEST]
        for value in values[:_SHOWN]
    ]
    return ", ".join(shown) + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")


def _spanned(values: Sequence[str | float], unit: str) -> str:
    low, high = f"{float(values[0]):.4g}", f"{float(values[-1]):.4g}"
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"
