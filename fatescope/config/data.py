"""Sections of `params.yaml` about the data: dataset, simulate, ingest, validate, split."""

import re
from typing import Annotated, Self

from pydantic import Field, model_validator

from fatescope.config.names import ClassName, TaskName
from fatescope.config.section import Count, Section, Share, Size


class Dataset(Section):
    """How the paths below `data/` encode class, group and channel of a cell, and which tasks there are."""

    pattern: str
    """Regular expression with named groups, searched in each path relative to `data/`."""
    label: str
    """The named group whose value is the class."""
    classes: dict[str, ClassName]
    """Value of the label group → class name; validation fails on a value that is not listed."""
    group: list[str]
    """The named groups that together identify an acquisition group."""
    input_channel: str | None
    """Value of the named group `channel` whose images the model gets; null where the pattern has no such group."""
    ranges: dict[str, tuple[float, float]]
    """Named group that is a number → its lowest and highest value; validation fails outside that range."""
    tasks: dict[TaskName, list[str]]
    """Task name → the classes that its model distinguishes, in the order of the model's outputs."""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
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
                raise ValueError(f"{field} '{group}' is not a named group of pattern, which has {sorted(names)}")
        if self.input_channel is not None and "channel" not in names:
            raise ValueError("input_channel is set, but pattern has no group 'channel'; add it or set null")
        if self.input_channel is None and "channel" in names:
            raise ValueError("pattern has a group 'channel', so input_channel must name the one that the model gets")
        for task, classes in self.tasks.items():
            if len(classes) < 2 or len(set(classes)) != len(classes):
                raise ValueError(f"task '{task}' needs two or more different classes, got {classes}")
            unknown = sorted(set(classes) - set(self.classes.values()))
            if unknown:
                raise ValueError(f"task '{task}' names {unknown}, which dataset.classes does not have")
        return self


class Simulate(Section):
    """The cells that `fatescope data simulate` draws where there are no images."""

    seed: int
    """Seed of the simulation; the same seed gives the same bytes."""
    cells: Count
    """Total number of cells, spread evenly over medium, day and run."""
    days: list[Count]
    """Days of differentiation; class differences grow with the day."""
    runs: Count
    """Acquisition runs of each medium and day."""
    marker_channels: Annotated[int, Field(ge=0, le=5)]
    """Number of fluorescence channels in addition to brightfield, numbered from 2."""
    height: Annotated[int, Field(ge=24)]
    """Mean native crop height, px."""
    width: Annotated[int, Field(ge=24)]
    """Mean native crop width, px."""
    shortcut: Share
    """How strongly the illumination of a run depends on its medium: 0 not at all, 1 entirely."""
    focus_shift: Share
    """How far the focus of a run follows its medium: 0 not at all, 1 from sharp to a wide, soft halo."""
    noise_shift: Share
    """How far the read noise of a run follows its medium: 0 not at all, 1 from 2 to 5 counts."""
    gain_shift: Share
    """How far the gain of a run follows its medium: 0 not at all, 1 from 0.75 to 1.25 of the usual camera."""


class Ingest(Section):
    """How image files become one table and one array of pixels."""

    canvas: Size
    """Height and width in px of the canvas on which every cell is centred; a larger cell is refused."""
    max_refused_share: Share
    """The stage fails when it refuses more than this share of the input channel's files."""
    max_megapixels: Annotated[float, Field(gt=0)]
    """Largest image, 1e6 px; one whose header announces more is refused before it is decoded."""
    share: Annotated[float, Field(gt=0, le=1)]
    """Share of cells to keep, sampled within each class and group; 1 keeps all."""
    seed: int
    """Seed of that sample."""
    workers: Count
    """Processes that read and decode, at most: one for every 5,000 files."""


class Validation(Section):
    """What cells must satisfy before a model is trained on them; the section `validate`."""

    height_px: Size
    """Smallest and largest native height of a crop."""
    width_px: Size
    """Smallest and largest native width of a crop."""
    max_saturation: Share
    """Largest share of saturated pixels in an image."""
    min_spread: Annotated[float, Field(ge=0)]
    """Smallest standard deviation of the pixels of an image, counts; below it the image is blank."""
    min_focus: Annotated[float, Field(ge=0)]
    """Smallest focus measure of an image (`focus` in `fatescope.data.features`); below it the image is out of focus."""
    max_bad_share: Share
    """Largest share of cells that may violate any one of the above."""
    max_duplicate_share: Share
    """Largest share of cells whose pixels equal those of another cell."""
    min_cells_per_class: Count
    """Smallest number of cells of each class of a task."""
    min_cells_per_group: Count
    """Smallest number of cells of a class in each of its groups; fewer give a warning."""
    max_background_shift: Annotated[float, Field(ge=0)]
    """Largest deviation of a group's median background from the median of all groups, as a share of that; more
    gives a warning."""


class Split(Section):
    """How cells are divided into training, validation and test."""

    seed: int
    """Seed of both schemes."""
    test_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of all cells in the test split."""
    validation_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the remaining cells in the validation split."""
    leave_out: list[str]
    """Groups that form the test split of the scheme `grouped`; an empty list has them chosen by `test_share`."""
