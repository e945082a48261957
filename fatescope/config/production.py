"""The section `gate` of `params.yaml`: what a version must show to become the champion."""

from typing import Annotated, Literal

from pydantic import Field

from fatescope.config.section import Count, Section, Share

Signable = Literal["audit", "grouped", "baselines", "replicates", "comparable"]
"""Criteria of the gate that a person may lift."""


class Signature(Section):
    """Who approved an exception, and why."""

    name: Annotated[str, Field(min_length=1)]
    """The person."""
    reason: Annotated[str, Field(min_length=1)]
    """Why the exception is justified."""
    criteria: list[Signable] = Field(["audit"], min_length=1)
    """The criteria that it lifts: `audit`, `grouped`, `baselines`, `replicates`, `comparable`."""


class Gate(Section):
    """What a version must show to become the champion."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """Share of challengers, no better than the champion, that are refused, over all looks at the same test groups."""
    min_groups: Annotated[int, Field(ge=2)]
    """Fewest test groups of each class for a comparison that no person has to sign."""
    accept: Literal["better", "not_worse_and_cheaper"]
    """Whether a challenger must be better, or may also be cheaper (fewer multiply-adds) and not worse."""
    margin: Share
    """Largest loss of balanced accuracy of a cheaper challenger, at that confidence."""
    max_group_fall: Share
    """Largest loss of accuracy in any acquisition group."""
    min_group_cells: Count
    """Smallest number of cells of an acquisition group that is compared."""
    max_calibration_error: Share
    """Largest calibration error on the test cells, root mean square, without what chance adds to it."""
    signed_off: dict[str, Signature]
    """Task → who approved a champion although a criterion does not hold; the model card shows it."""
