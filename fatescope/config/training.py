"""Sections of `params.yaml` on the model: train, ensemble, calibrate."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fatescope.config.section import Count, Section, Share, Size


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
