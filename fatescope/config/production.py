"""The section `gate` of `params.yaml`: what a version must show to become the champion."""

from typing import Annotated, Literal

from pydantic import Field

from fatescope.config.section import Count, Section, Share


class Signature(Section):
    """A person who answers for something."""

    name: Annotated[str, Field(min_length=1)]
    """Who."""
    reason: Annotated[str, Field(min_length=1)]
    """Why it may be, nevertheless."""


class Gate(Section):
    """What a version must show to become the champion."""

    seed: int
    """Seed of the paired bootstrap."""
    repeats: Annotated[int, Field(ge=40)]
    """Draws of it."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """Share of draws in which the challenger must be ahead."""
    accept: Literal["better", "not_worse_and_cheaper"]
    """Whether a model that takes fewer multiply-adds may take over without being better."""
    margin: Share
    """How much balanced accuracy a cheaper one may lose, at that confidence."""
    max_group_fall: Share
    """How much an acquisition group may lose of the share of its cells that are called right."""
    min_group_cells: Count
    """Cells that a group needs to be asked."""
    max_calibration_error: Share
    """Expected calibration error on the test cells."""
    signed_off: dict[str, Signature]
    """Task → who answers for a champion although acquisition alone tells its classes apart; the card says so."""
