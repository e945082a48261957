"""Sections of `params.yaml` about the model: pretrain, train, ensemble, calibrate."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fatescope.config.section import Count, Section, Share, Size


class Pretrain(Section):
    """Learning from cells without labels. Backbone, preprocessing and threads are those of the section `train`."""

    method: Literal["none", "simclr", "vicreg"]
    """`none` for no pretraining; else how the backbone is taught that two views of a cell are alike: by telling the
    cell from the others of its batch (`simclr`, Chen et al. 2020), or with uncorrelated outputs (`vicreg`, Bardes et
    al. 2022). `train.weights: pretrained` starts from the result."""
    seed: int
    """Seed of initial weights, order of cells and views."""
    epochs: Count
    """Passes over the cells."""
    minutes: Annotated[float, Field(gt=0)]
    """Minutes that it may take. Where `epochs` would take longer on this machine, it gets fewer steps."""
    batch_size: Annotated[int, Field(ge=2)]
    """Cells in a step; each is seen in two views."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Peak learning rate of the one-cycle schedule."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Decoupled weight decay of AdamW."""
    scale: Share
    """Largest change of magnification between views, as a share of it; small where the size of cells matters."""
    shift: Annotated[int, Field(ge=0)]
    """Largest random shift along each axis, px of the input."""
    focus: Annotated[float, Field(ge=0)]
    """Largest standard deviation of the Gaussian that blurs a view, px of the input; half of the views stay sharp."""
    noise: Annotated[float, Field(ge=0)]
    """Largest standard deviation of added noise, in units of the standard deviation of the image."""
    intensity: Share
    """Largest random change of gain, as a share of it; level and slope of the illumination change by up to half of
    that, in units of the standard deviation of the image."""


class Train(Section):
    """Architecture, preprocessing and optimisation of one network."""

    seeds: Annotated[list[int], Field(min_length=1)]
    """Seeds of initial weights, order of cells, augmentation and dropout. One network is trained for each seed; the
    first is served, the others measure the spread."""
    backbone: str
    """A name in `fatescope.networks.backbones.BACKBONES`, or `vision_tower`, which needs the extra `language`."""
    weights: str
    """`none`, `imagenet`, `pretrained` (those of the stage `pretrain`), or the path of a state dict: torchvision's,
    with or without folded batch normalisation, or `weights.safetensors` of a bundle; for `vision_tower` the folder of a
    LLaVA."""
    freeze: bool
    """Whether the backbone keeps its `weights`, and its statistics of batch normalisation, and only the linear layer is
    trained; needs weights to keep."""
    stem: Literal["standard", "small"]
    """Strides of the backbone: `standard` as it was made for large images, or `small` with a position of the feature
    map every 8 px and without the last stage (`fatescope.networks.stems`); of `compact`, both are the same."""
    input_size: Size
    """Height and width in px of the backbone's input."""
    resize: Literal["pad", "stretch"]
    """Whether resizing to `input_size` keeps the aspect ratio of the canvas (`pad`) or not (`stretch`)."""
    normalisation: Literal["contrast", "background", "fixed"]
    """What removes illumination: `contrast` divides by the contrast of each cell, `background` by its background
    level; `fixed` leaves illumination in."""
    epochs: Count
    """Largest number of passes over the training cells."""
    patience: Count
    """Epochs without a lower validation loss after which training stops early."""
    minutes: Annotated[float, Field(gt=0)]
    """Minutes that all fits of the stage `train` may take together. Where `epochs` would take longer on this machine,
    all fits get fewer; what was planned is in `models.json`."""
    batch_size: Annotated[int, Field(ge=2)]
    """Cells in a training step: of one alone, batch normalisation has no variance."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Peak learning rate of the one-cycle schedule."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Decoupled weight decay of AdamW."""
    dropout: Share
    """Dropout probability of the embedding before the linear layer."""
    label_smoothing: Share
    """Probability mass of the training target that is spread evenly over all classes."""
    balance: Literal["weights", "sampling", "none"]
    """How classes of unequal size are balanced: by weights in the loss, by sampling, or not at all."""
    symmetries: bool
    """Whether augmentation mirrors cells, and also rotates them by 90° where the input is square and both axes have
    one scale."""
    max_shift: Annotated[int, Field(ge=0)]
    """Largest random shift along each axis in augmentation, px of the input."""
    intensity: Share
    """Largest random change of a cell's contrast in augmentation, as a share of it; its level changes by up to half
    of that."""
    views: Literal["one", "symmetries"]
    """What the finished model averages over: `one` classifies the cell as it is; `symmetries` takes the mean over its
    mirrored and rotated copies, the same as in augmentation, at four or eight times the cost."""
    domain: Literal["none", "randomise", "randomise_strongly"]
    """`randomise` trains on half of the cells as other instruments would take them, drawn anew for each cell: with
    another illumination, and a little with another noise, focus and pixel size. `randomise_strongly` changes these
    as much: for a really different instrument, at a cost where size and detail tell the classes apart."""
    groups: Literal["pooled", "dro"]
    """Whether all training cells count alike, or acquisition groups that are classified badly count more (GroupDRO,
    Sagawa et al. 2020)."""
    group_step: Annotated[float, Field(gt=0)]
    """How fast the weights of groups change with `groups: dro`, per training step."""
    distil: bool
    """Whether the ensemble, or a network that is not compact, teaches a compact one, which is then a candidate too
    (`distilled`) and is served where it costs less and keeps 0.98 of the balanced accuracy; of a network of a bundle,
    whether it was taught."""
    threads: Count
    """CPU threads of PyTorch and of the exported graph."""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.views == "symmetries" and not self.symmetries:
            raise ValueError(
                "views: symmetries needs symmetries: true, because the model must be trained on mirrored cells"
            )
        if self.freeze and self.weights == "none":
            raise ValueError(
                "freeze: true keeps the weights of the backbone, and weights: none are random; set weights to imagenet "
                "or to the path of a file, or freeze to false"
            )
        return self

    def changed(self, fields: dict[str, Any]) -> Self:
        """Return a copy of this section with the values of `fields`, given as JSON types and validated."""
        return self.model_validate_json(json.dumps(self.model_dump(mode="json") | fields))


class Ensemble(Section):
    """An ensemble of the best trials, which competes with the single best network on cells that neither has seen."""

    members: Annotated[int, Field(ge=1)]
    """Number of networks in the ensemble, of different backbones where the search has enough; 1 for no ensemble."""
    join: Literal["probabilities", "embeddings"]
    """Average the probabilities, or put one new linear layer on the concatenated embeddings."""


class Calibrate(Section):
    """What is calibrated on cells that networks have not seen: by cross-fitting over training and validation."""

    seed: int
    """Seed of the folds and of the simulated mixtures."""
    folds: Annotated[int, Field(ge=2)]
    """Parts that the groups are dealt to, each held out of one fit; fewer where a class has fewer groups."""
    coverage: Annotated[float, Field(gt=0, lt=1)]
    """Target share of the cells of each class whose conformal set contains that class."""
    false_alarm: Annotated[float, Field(gt=0, lt=1)]
    """Target share of in-distribution cells that are called unlike the training cells."""
    directions: Count
    """Number of principal directions of the embedding whose variance is estimated individually."""
