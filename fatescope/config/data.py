"""Sections of `params.yaml` about the data: dataset, simulate, ingest, validate, quality, split."""

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fatescope.config.names import BRIGHTFIELD, ChannelKind, ClassName, TaskName, plain_channel
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
    channels: dict[str, ChannelKind] | None
    """Value of the named group `channel` → kind of its images, `brightfield` or `darkfield`, for each channel that the
    model gets, in the order in which it gets them; null where the pattern has no such group: brightfield alone."""
    marker_channels: list[str]
    """Channels of fluorescence markers, which may never be among `channels`: a model that sees the stain which made
    the labels learns nothing else."""
    ranges: dict[str, tuple[float, float]]
    """Named group that is a number → its lowest and highest value; validation fails outside that range."""
    tasks: dict[TaskName, list[str]]
    """Task name → the classes that its model distinguishes, in the order of the model's outputs."""
    hierarchy: dict[TaskName, dict[ClassName, list[str]]]
    """Task name → coarse class → the classes of the task that it joins. A cell whose class is unsure is called by the
    coarse class where enough of such calls are right; classes may belong to none, and a task may have no entry."""
    track: str | None
    """The named group that tells the cells of an acquisition group apart where a cell has several images over time;
    null where each image is of another cell. Images of one cell are on one side of every split, and answered
    together."""
    time: str | None
    """The named group that is the time of such an image, a number in any unit; null where there are no tracks."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The channels that the model gets, in order; empty where paths name none."""
        return tuple(self.channels or ())

    @property
    def kinds(self) -> tuple[ChannelKind, ...]:
        """The kind of each image of a cell, in the order in which the model gets them."""
        return tuple(self.channels.values()) if self.channels else (BRIGHTFIELD,)

    @classmethod
    def read(cls, content: dict[str, Any]) -> Self:
        """Return the section with this `content`, which an earlier version may have written, into a bundle for example.

        Raises ValidationError where it is not valid.
        """
        return cls.model_validate_json(json.dumps(cls.update(content)))

    @staticmethod
    def update(content: dict[str, Any]) -> dict[str, Any]:
        """Return the `content` of the section as this version writes it: earlier ones had one `input_channel`."""
        updated = {"marker_channels": [], "hierarchy": {}, "track": None, "time": None} | content
        if "channels" not in updated and "input_channel" in updated:
            channel = updated.pop("input_channel")
            updated["channels"] = None if channel is None else {channel: BRIGHTFIELD}
        return updated

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        if self.channels is not None and not self.channels:
            raise ValueError("channels names no channel; name those that the model gets, or set null")
        plain = [plain_channel(name) for name in self.inputs]
        if len(set(plain)) < len(plain):
            raise ValueError(f"channels names a channel twice: {list(self.inputs)}")
        if markers := [name for name in self.inputs if plain_channel(name) in map(plain_channel, self.marker_channels)]:
            raise ValueError(
                f"channel '{markers[0]}' is among marker_channels, and a marker is never an input; "
                "remove it from channels"
            )
        return self

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        try:
            names = set(re.compile(self.pattern).groupindex)
        except re.error as error:
            raise ValueError(f"pattern is not a regular expression: {error}") from error
        if (self.track is None) != (self.time is None):
            raise ValueError("track and time belong together; name a group of pattern for each, or set both to null")
        for field, group in [
            ("label", self.label),
            *((name, group) for name in ("track", "time") if (group := getattr(self, name)) is not None),
            *(("group", name) for name in self.group),
            *(("ranges", name) for name in self.ranges),
        ]:
            if group not in names:
                raise ValueError(f"{field} '{group}' is not a named group of pattern, which has {sorted(names)}")
        if self.channels is not None and "channel" not in names:
            raise ValueError("channels is set, but pattern has no group 'channel'; add it or set null")
        if self.channels is None and "channel" in names:
            raise ValueError("pattern has a group 'channel', so channels must name those that the model gets")
        for task, classes in self.tasks.items():
            if len(classes) < 2 or len(set(classes)) != len(classes):
                raise ValueError(f"task '{task}' needs two or more different classes, got {classes}")
            unknown = sorted(set(classes) - set(self.classes.values()))
            if unknown:
                raise ValueError(f"task '{task}' names {unknown}, which dataset.classes does not have")
        return self

    @model_validator(mode="after")
    def _check_hierarchy(self) -> Self:
        for task, coarse in self.hierarchy.items():
            if task not in self.tasks:
                raise ValueError(f"hierarchy names the task '{task}', which tasks does not have: {list(self.tasks)}")
            classes = self.tasks[task]
            joined = [name for members in coarse.values() for name in members]
            for name, members in coarse.items():
                where = f"hierarchy of task '{task}': coarse class '{name}'"
                if name in self.classes.values():
                    raise ValueError(f"{where} has the name of a class; name it otherwise")
                if unknown := [member for member in members if member not in classes]:
                    raise ValueError(f"{where} joins {unknown}, which are no classes of the task: {classes}")
                if not is_coarse(members, classes):
                    raise ValueError(
                        f"{where} joins {members}; it must join two classes or more, but not all of the task, because "
                        "it would say nothing; leave it out"
                    )
            if twice := sorted({name for name in joined if joined.count(name) > 1}):
                raise ValueError(
                    f"hierarchy of task '{task}' joins {twice} twice; a class has one coarse class at most"
                )
        return self


def is_coarse(members: list[str], classes: list[str]) -> bool:
    """Return whether a coarse class of `members` says something of a cell of a task with `classes`, but not which."""
    return 2 <= len(members) < len(classes)


class Simulate(Section):
    """The cells that `fatescope data simulate` draws where there are no images."""

    seed: int
    """Seed of the simulation; the same seed gives the same bytes."""
    cells: Count
    """Total number of cells, spread evenly over day and run, and over the media by their weights."""
    media: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=2)]
    """Medium, as file names spell it → its weight among the cells: `a`, `o`, `n`, `nt3` (astrocyte, oligodendrocyte,
    RA/SHH, NT3), `p` (progenitor), `m` (microglia), `s` (Schwann), `d` (dopaminergic), `f` (fibroblast)."""
    days: list[Count]
    """Days of differentiation; class differences grow with the day."""
    runs: Count
    """Acquisition runs of each medium and day."""
    marker_channels: Annotated[int, Field(ge=0, le=5)]
    """Number of fluorescence channels in addition to brightfield, numbered from 2."""
    darkfield: bool
    """Whether channel 12, darkfield (side scatter), is drawn too."""
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
    junk: Share
    """Share of images that show no good single cell: doublets, debris alone, cells out of focus, cells that the border
    cuts, and saturated images, as many of each. Other images do not change with it."""
    frames: Count
    """Images of each cell, six hours apart; from two on, names have the hour too (the preset `followed`)."""


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
    """Processes that read and decode, at most: one for every 5,000 files; 1 reads in the stage itself, unprotected."""


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


QualityLimit = Literal["min_gradient_rms", "min_area", "max_border_contact", "max_saturation"]


class Quality(Section):
    """The gates around good single cells, whose limits are learned from the cells."""

    exclude: bool
    """Whether cells outside the gates (out of focus, doublets, debris, clipped, saturated) belong to no split; they are
    counted and shown in any case."""
    loss: Annotated[float, Field(gt=0, lt=0.5)]
    """Share of good cells that the gates of focus, doublets and debris may cost together."""
    limits: dict[QualityLimit, Annotated[float, Field(ge=0)]]
    """Limit → the value that a person drew it at, instead of the learned one: `min_gradient_rms` (1/px), `min_area`
    (px), `max_border_contact` and `max_saturation` (shares)."""


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
