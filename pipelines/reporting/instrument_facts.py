"""What files of the instrument say of the training cells, for the card. Names of people are never among it."""

from dataclasses import dataclass

import pandas as pd

from pipelines.evaluation.acquisition_facts import ALL, CATEGORIES, read_facts
from pipelines.evaluation.audit_report import AuditReport, BalancedAccuracy

_TITLES = {
    "instrument": "Instrument", "software": "Software", "magnification": "Magnification", "date": "Date",
    "brightfield_power_w": "Power of the brightfield lamp, W", "flow_speed": "Flow speed, mm/s",
    "camera_line": "Line of the camera (order in the run)", "camera_timer": "Timer of the camera (order in the run)",
    "background_mean": "Mean background, brightfield, counts", ALL: "All of these together",
}  # fmt: skip
_SHOWN = 5
"""Values of a category that are shown."""


@dataclass(frozen=True)
class FactRow:
    """A fact in the table of the card."""

    title: str
    value: str
    """Of the training cells."""
    accuracy: BalancedAccuracy | None
    """What it alone predicts, on groups that the model of the audit has not seen where there are enough."""


def name_instrument(cells: pd.DataFrame) -> str:
    """Return which instrument recorded the cells, and its magnification; empty where files do not say."""
    facts = read_facts(cells)
    names = _values(facts["instrument"]) if "instrument" in facts else ""
    if "magnification" not in facts:
        return names
    magnification = f"at {_values(facts['magnification'], unit='x')}"
    return f"{names} {magnification}".strip()


def tabulate_facts(cells: pd.DataFrame, audit: AuditReport) -> list[FactRow]:
    """Return what files say of the cells, and what each fact alone predicts; none where they say nothing."""
    facts = read_facts(cells)
    rows = [
        FactRow(_title(name), _values(column) if name in CATEGORIES else _span(column), _accuracy(name, audit))
        for name, column in facts.items()
    ]
    return [*rows, FactRow(_title(ALL), "", _accuracy(ALL, audit))] if ALL in audit.facts else rows


def _title(name: str) -> str:
    return _TITLES.get(name) or f"Mean background of channel {name.removeprefix('background_mean_')}, counts"


def _accuracy(name: str, audit: AuditReport) -> BalancedAccuracy | None:
    by_scheme = audit.facts[name].accuracy if name in audit.facts else {}
    return by_scheme.get("grouped") or by_scheme.get("random")


def _values(column: "pd.Series[float]", unit: str = "") -> str:
    values = sorted({f"{value:g}" if isinstance(value, float) else str(value) for value in column.dropna().unique()})
    shown = ", ".join(f"{value}{unit}" for value in values[:_SHOWN])
    return f"{shown} and {len(values) - _SHOWN} more" if len(values) > _SHOWN else shown


def _span(column: "pd.Series[float]") -> str:
    low, high = float(column.min()), float(column.max())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
