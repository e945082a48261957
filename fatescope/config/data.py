"""Sections of `params.yaml` on the cells: dataset, simulate, ingest, validate, split."""

import re
from typing import Annotated, Self

from pydantic import Field, model_validator

from fatescope.config.section import Count, Section, Share, Size


class Dataset(Section):
    """How the paths below `data/` spell facts, and which questions are asked of the cells."""

    pattern: str
    """Regular expression with named groups, searched in each path relative to `data/`."""
    label: str
    """The named group that is the class."""
    classes: dict[str, str]
    """Value of the label group → class name; validation fails on a value that is not listed."""
    group: list[str]
    """The named groups that together make an acquisition group."""
    input_channel: str | None
    """Value of the group `channel` that the model sees; null where the pattern has no such group."""
    ranges: dict[str, tuple[float, float]]
    """Named group that is a number → its lowest and highest value; validation fails outside."""
    tasks: dict[str, list[str]]
    """Task name → the class names it tells apart, in the order of the model's outputs."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        try:
            names = set(re.compile(self.pattern).groupindex)
        except re.error as error:
            raise ValueError(f"pattern is not a regular expression: {error}") from error
        for field, group in [
            ("label", self.label),
            *(("group", name) for name in self.group),
            *(("ranges", name) for name in self.ranges),
        ]:
            if group not in names:
                raise ValueError(f"{field} '{group}' is no named group of pattern, which has {sorted(names)}")
        if self.input_channel is not None and "channel" not in names:
            raise ValueError("input_channel is set, but pattern has no group 'channel'; add it or set null")
        if self.input_channel is None and "channel" in names:
            raise ValueError("pattern has a group 'channel', so input_channel must name the one the model sees")
        for task, classes in self.tasks.items():
            if not re.fullmatch(r"[a-z0-9_]+", task):
                raise ValueError(f"task name '{task}' must be made of lower-case letters, digits and _")
            if len(classes) < 2 or len(set(classes)) != len(classes):
                raise ValueError(f"task '{task}' needs two or more different classes, got {classes}")
            unknown = sorted(set(classes) - set(self.classes.values()))
            if unknown:
                raise ValueError(f"task '{task}' names {unknown}, which dataset.classes does not")
        return self


class Simulate(Section):
    """The cells that are drawn where there is no data."""

    seed: int
    """Seed of everything that is drawn; the same seed gives the same bytes."""
    cells: Count
    """Cells in all, spread evenly over medium, day and run."""
    days: list[Count]
    """Days of differentiation; class differences grow with the day."""
    runs: Count
    """Acquisition runs of each medium and day."""
    marker_channels: Annotated[int, Field(ge=0, le=5)]
    """Fluorescence channels beside brightfield, numbered from 2."""
    height: Annotated[int, Field(ge=24)]
    """Mean native crop height, px."""
    width: Annotated[int, Field(ge=24)]
    """Mean native crop width, px."""
    shortcut: Share
    """How strongly the lamp level of a run follows its medium: 0 not at all, 1 entirely."""


class Ingest(Section):
    """From files to one table and one array."""

    canvas: Size
    """Height and width in px that every cell is centred on; a larger cell is refused."""
    max_refused_share: Share
    """The stage fails when more than this share of the input channel's files is refused."""
    max_megapixels: Annotated[float, Field(gt=0)]
    """An image whose header announces more is refused before it is decoded, 1e6 px."""
    share: Annotated[float, Field(gt=0, le=1)]
    """The share of cells kept, drawn within each class and group; 1 keeps all."""
    seed: int
    """Seed of that draw."""
    workers: Count
    """Processes that read and decode."""


class Validation(Section):
    """What the cells must look like before anything is trained on them; the section `validate`."""

    height_px: Size
    """Smallest and largest native height of a crop."""
    width_px: Size
    """Smallest and largest native width of a crop."""
    max_saturation: Share
    """Share of saturated pixels that an image may have."""
    min_spread: Annotated[float, Field(ge=0)]
    """An image whose standard deviation is less, counts, is blank."""
    min_focus: Annotated[float, Field(ge=0)]
    """An image whose focus figure (`features.ACQUISITION`) is less is out of focus."""
    max_bad_share: Share
    """Share of cells that may break any of the above."""
    max_duplicate_share: Share
    """Share of cells that may have the pixels of another."""
    min_cells_per_class: Count
    """Cells that each class of a task needs."""
    min_cells_per_group: Count
    """Cells that each class should have in each of its groups."""
    max_background_shift: Annotated[float, Field(ge=0)]
    """How far the median background of a group should be from that of all groups, as a share of it."""


class Split(Section):
    """Which cells are for training, validation and test."""

    seed: int
    """Seed of both splits."""
    test_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of all cells that are kept for the test."""
    validation_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the remaining cells that are kept for validation."""
    leave_out: list[str]
    """Groups that are the test part of the grouped split; empty lets the splitter choose them by `test_share`."""
