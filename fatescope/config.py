"""`params.yaml` as frozen typed objects, one model a section.

No field has a default: each value has one home, and that is `params.yaml`.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fatescope.errors import ParamsError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Size = tuple[Count, Count]


class Section(BaseModel):
    """A section of `params.yaml`: unknown fields, wrong types and later changes are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


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


class Audit(Section):
    """What acquisition alone predicts, and when that is called a shortcut."""

    seed: int
    """Seed of the cells chosen, the folds, the models and the intervals."""
    max_cells: Count
    """Cells that are looked at, an equal share of each class."""
    folds: Annotated[int, Field(ge=2)]
    """Folds of the cross-validation; fewer where a class has fewer cells or groups."""
    repeats: Annotated[int, Field(ge=40)]
    """Bootstrap draws behind each 95 % interval."""
    max_groups: Annotated[int, Field(ge=2)]
    """Groups of one class that are told from each other at most."""
    suspect_auc: Annotated[float, Field(ge=0.5, le=1)]
    """A pair is suspect where the lower end of the interval of the AUC reaches this."""
    shortcut_auc: Annotated[float, Field(ge=0.5, le=1)]
    """A pair has a shortcut where it reaches this on pixels that cannot hold the cell."""


class Train(Section):
    """One fit of one network."""

    seeds: Annotated[list[int], Field(min_length=1)]
    """Seeds of initial weights, order of cells, augmentation and dropout: a fit each, of which the first is served."""
    backbone: str
    """A name in `fatescope.networks.backbones.BACKBONES`."""
    weights: str
    """`none`, `imagenet`, or the path of a state dict: torchvision's, or `weights.safetensors` of a bundle."""
    input_size: Size
    """Height and width in px that the backbone sees."""
    resize: Literal["pad", "stretch"]
    """Whether the canvas keeps its aspect ratio on the way to `input_size`."""
    normalisation: Literal["contrast", "background", "fixed"]
    """What takes the lamp out: the contrast of each cell, or the level of its background; `fixed` leaves it in."""
    epochs: Count
    """Passes over the training cells."""
    patience: Count
    """Epochs without a lower loss on the validation cells after which training ends early."""
    batch_size: Count
    """Cells a step."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Peak of the one-cycle schedule."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Decoupled weight decay of AdamW."""
    dropout: Share
    """Share of the embedding that is dropped before the linear layer while training."""
    label_smoothing: Share
    """Probability spread evenly over all classes in the training target."""
    balance: Literal["weights", "sampling", "none"]
    """How classes of unequal size come to count the same: in the loss, by how often a cell is drawn, or not at all."""
    symmetries: bool
    """Whether cells are mirrored, and turned where the input is square and its sides were stretched alike."""
    max_shift: Annotated[int, Field(ge=0)]
    """How far a cell is moved at most along each axis, px of the input."""
    intensity: Share
    """How much the contrast of a cell is changed at most, as a share of it; its level by half of that."""
    views: Literal["one", "symmetries"]
    """How the finished model looks at a cell: as it is, or as the mean of the ways, mirrored and turned, that
    `symmetries` speaks of, for four or eight times the cost."""
    threads: Count
    """CPU threads of PyTorch and of the exported graph."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.views == "symmetries" and not self.symmetries:
            raise ValueError("views: symmetries needs symmetries: true, for the model must know such cells")
        return self

    def changed(self, fields: dict[str, Any]) -> Self:
        """Return this section with other values of `fields`, given as JSON types, which are checked as all are."""
        return self.model_validate_json(json.dumps(self.model_dump(mode="json") | fields))


class Range(Section):
    """A range of numbers that the search may choose from."""

    low: float
    """Lowest value."""
    high: float
    """Highest value."""
    log: bool
    """Whether the logarithm is drawn evenly, not the value."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low must be below high, and above 0 with log, got {self.low} and {self.high}")
        return self


Choice = Annotated[list[bool | str | int | float | Size], Field(min_length=1)]


class Tune(Section):
    """The search for the best fit of one task."""

    seed: int
    """Seed of the sampler; each fit has the first of `train.seeds`."""
    sampler: Literal["tpe", "gp", "random"]
    """Tree of Parzen estimators (Bergstra et al. 2011), Gaussian process (Snoek et al. 2012), or chance."""
    startup_trials: Count
    """Trials that are drawn at random before the sampler learns from them, in each bracket of Hyperband."""
    trials: Annotated[int, Field(ge=0)]
    """Trials in all, over all processes and sessions; with 0 the section `train` stands as it is."""
    minutes: Annotated[float, Field(gt=0)]
    """Minutes after which no trial is begun and a running one ends with the epoch it is in."""
    workers: Count
    """Processes that share the study; on a machine with GPUs each takes one."""
    epochs: Count
    """Epochs of a trial that is not pruned."""
    min_epochs: Count
    """Epochs before Hyperband (Li et al. 2018) may prune a trial; it has several brackets up to a third of `epochs`."""
    space: dict[str, Range | Choice]
    """Field of the section `train` → the range or the list of values that it may take."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        unknown = sorted(set(self.space) - SEARCHABLE)
        if unknown:
            raise ValueError(f"space names {unknown}; what can be searched is {sorted(SEARCHABLE)}")
        for name, allowed in self.space.items():
            values: list[Any] = [allowed.low, allowed.high] if isinstance(allowed, Range) else allowed
            if isinstance(allowed, Range) and name in WHOLE:
                values = [int(end) if end.is_integer() else end for end in values]
            for value in values:
                if wrong := _wrong(name, value):
                    raise ValueError(f"space.{name} cannot be {json.dumps(value)}: {wrong}")
        return self


SEARCHABLE = set(Train.model_fields) - {"seeds", "epochs", "patience", "threads", "weights", "views"}
"""Fields of `train` that a trial may set; it looks at each cell once."""
WHOLE = {name for name, field in Train.model_fields.items() if field.annotation is int}
"""Fields of `train` that are whole numbers."""


def _wrong(name: str, value: object) -> str:
    """Return what the section `train` says of `value` in its field `name`; nothing where it may be that."""
    try:
        Train.model_validate_json(json.dumps({name: value}))
    except ValidationError as error:
        # The other fields are missing, which does not matter here.
        return "; ".join(each["msg"] for each in error.errors() if each["loc"][0] == name)
    return ""


class Ensemble(Section):
    """Several of the best trials joined into one model, a candidate beside the single best."""

    members: Annotated[int, Field(ge=1)]
    """The best trials, of different backbones as far as the space has so many; 1 for no ensemble."""
    join: Literal["probabilities", "embeddings"]
    """Averaged probabilities, or concatenated embeddings under one new linear layer."""


class Calibrate(Section):
    """What the validation cells are asked."""

    seed: int
    """Seed of the mixtures."""
    coverage: Annotated[float, Field(gt=0, lt=1)]
    """Share of the cells of each class whose conformal set is to hold the class."""
    false_alarm: Annotated[float, Field(gt=0, lt=1)]
    """Share of like cells that may be called unlike the training cells."""
    directions: Count
    """Directions of the embedding in which the spread of training cells is measured one by one."""


class Evaluate(Section):
    """How figures on test cells are taken."""

    seed: int
    """Seed of intervals and mixtures."""
    repeats: Annotated[int, Field(ge=40)]
    """Bootstrap draws behind each 95 % interval."""
    min_groups: Annotated[int, Field(ge=2)]
    """With fewer acquisition groups of a class among the test cells, intervals are said to be rough."""
    bins: Annotated[int, Field(ge=2)]
    """Bins of the reliability diagram and of the calibration error, with equal numbers of cells."""
    mixtures: Count
    """Simulated cultures that the composition estimator is tried on."""
    mixture_cells: Count
    """Cells of each."""


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


class Params(Section):
    """The whole of `params.yaml`."""

    dataset: Dataset
    simulate: Simulate
    ingest: Ingest
    # A field called validate would hide a method of pydantic's models.
    validation: Validation = Field(alias="validate")
    split: Split
    audit: Audit
    train: Train
    tune: Tune
    ensemble: Ensemble
    calibrate: Calibrate
    evaluate: Evaluate
    gate: Gate

    def classes(self, task: str) -> list[str]:
        """Return the class names of `task` in the order of the model's outputs."""
        try:
            return self.dataset.tasks[task]
        except KeyError:
            raise ParamsError(f"task '{task}' is not in dataset.tasks, which has {list(self.dataset.tasks)}") from None


def load(path: Path) -> Params:
    """Read `params.yaml`.

    Raises ParamsError that lists every wrong field with the value received.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the project's folder") from None
    except YAMLError as error:
        raise ParamsError(f"{path}: not YAML: {error}") from error
    try:
        # Through JSON, whose arrays pydantic accepts as tuples in strict mode.
        return Params.model_validate_json(json.dumps(content))
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']} (got {json.dumps(e['input'])[:200]})"
            for e in error.errors(include_url=False)
        ]
        raise ParamsError("\n".join(lines)) from error
