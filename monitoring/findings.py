"""What the comparison of a window with a reference has found."""

from dataclasses import dataclass
from typing import Any

MIN_CELLS = 30
"""Cells that a window needs to be evaluated, and cells with a fact that it needs to be judged by that."""
INPUT, OTHER_MIXTURE, ACQUISITION = "input", "mixture", "acquisition"
"""Kinds: a finding means that the input has changed; that the culture has, which is no fault; or that something of the
acquisition has that the model does not see. Only the first raises an alarm."""


@dataclass(frozen=True)
class Finding:
    """One statistic of a window."""

    statistic: str
    value: float
    threshold: float
    kind: str = INPUT
    words: str = ""
    """What a person should read of it, where the figure does not say it."""

    @property
    def drifted(self) -> bool:
        """Return whether the value is above its threshold."""
        return self.value > self.threshold

    @property
    def ratio(self) -> float:
        """Return the value as a multiple of its threshold."""
        return self.value / max(self.threshold, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON holds it."""
        figures = {"statistic": self.statistic, "value": self.value, "threshold": self.threshold}
        return figures | {"drifted": self.drifted} | ({"words": self.words} if self.words else {})


@dataclass(frozen=True)
class Report:
    """All statistics of a window."""

    cells: int
    findings: list[Finding]

    @property
    def input_drift(self) -> list[Finding]:
        """Return the findings above their thresholds that mean that the input has changed; the worst first."""
        drifted = [finding for finding in self.findings if finding.drifted and finding.kind == INPUT]
        return sorted(drifted, key=lambda finding: -finding.ratio)

    @property
    def told(self) -> list[Finding]:
        """Return the findings above their thresholds that have words, those that raise an alarm first."""
        drifted = [finding for finding in self.findings if finding.drifted and finding.words]
        return sorted(drifted, key=lambda finding: finding.kind != INPUT)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON holds it."""
        return {
            "cells": self.cells,
            "drifted": [finding.statistic for finding in self.input_drift],
            "findings": [finding.as_dict() for finding in self.findings],
        }
