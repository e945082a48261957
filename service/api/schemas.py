"""What goes back over HTTP: the shape of the JSON of an answer, and of a refusal."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.inference.errors import Answered, Problem, Warned

Verdict = Literal["sure", "unsure", "unlike_training"]
Count = Annotated[int, Field(ge=0, le=10**18)]


class Model(Answered):
    """The model that answered."""

    name: str = Field(examples=["fatescope-multiclass"])
    version: str = Field(examples=["3"])


class Activation(Answered):
    """Where the network looked."""

    label: str = Field(description="The class that the map speaks for (red) or against (blue).")
    png: str = Field(description="A translucent PNG of the size of the image, base64.")


class Judged(Answered):
    """What the model says of one cell."""

    label: str = Field(examples=["astrocyte"], description="The most probable class.")
    probabilities: dict[str, float] = Field(
        examples=[{"astrocyte": 0.97, "oligodendrocyte": 0.03}],
        description="Calibrated, and for equal shares of the classes.",
    )
    conformal_set: list[str] = Field(
        examples=[["astrocyte"]],
        description="Holds the true class of 9 in 10 cells like those it was calibrated on (the share is in /models).",
    )
    verdict: Verdict = Field(
        description="`sure`: one class is left in the set; `unsure`: several are; `unlike_training`: the cell is "
        "unlike all that the model has learned from, and its label means little.",
    )
    distance: float = Field(
        ge=0, description="How unlike the training cells it is; above 1 the verdict is `unlike_training`."
    )
    warnings: list[Warned]


class Answer(Judged):
    """The answer to one image."""

    model: Model
    task: str = Field(examples=["multiclass"])
    request_id: str = Field(description="The number of this request in the log, and in the header X-Request-ID.")
    activation_map: Activation | None = Field(default=None, description="With `explain=true`.")


class Cell(Answered):
    """One image of many: either what the model says of it, or `error`."""

    file: str = Field(examples=["run1/a_1d1_3_Ch1.ome.tif"], description="Its name, in a zip its path there.")
    page: Count | None = Field(description="In a file of several pages, from 0.")
    object: Count | None = Field(
        examples=[3], description="The instrument's number for the cell, where the name has it."
    )
    label: str | None = None
    probabilities: dict[str, float] | None = None
    conformal_set: list[str] | None = None
    verdict: Verdict | None = None
    distance: float | None = None
    warnings: list[Warned] | None = None
    thumbnail: str | None = Field(default=None, description="With `details=true`: a small PNG, base64.")
    figures: list[float] | None = Field(
        default=None, description="With `details=true`: the figures of the image that /models names, in their order."
    )
    error: Problem | None = None

    @model_validator(mode="after")
    def _is_either(self) -> Self:
        told = (self.label, self.probabilities, self.conformal_set, self.verdict, self.distance, self.warnings)
        if (self.error is None) != all(each is not None for each in told):
            raise ValueError("a cell has either all of an answer or an error")
        if self.label is not None and self.label not in (self.probabilities or {}):
            raise ValueError("the label is none of the classes")
        return self


class Share(Answered):
    """The share of a class in a culture, with a 95 % interval."""

    share: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class Sample(Answered):
    """What the cells of a request are made of, together."""

    cells: int = Field(description="Cells that were classified.")
    refused: int = Field(description="Files and pages that could not be.")
    other_channels: int = Field(description="Files of channels that the model does not look at; they are not listed.")
    sure: int
    unsure: int
    unlike_training: int
    called: dict[str, int] = Field(description="Cells by label: a plain count, which confusions of the model bias.")
    composition: dict[str, Share] | None = Field(
        description="Share of each class, corrected for what the model confuses, of the cells that are not "
        "`unlike_training`; null where there are none.",
    )


class BatchAnswer(Answered):
    """The answer to many images."""

    model: Model
    task: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    request_id: str
    simulated: bool = Field(description="Whether the model was trained on simulated cells.")
    sample: Sample
    cells: list[Cell]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        classes = set(self.sample.called)
        if any(each.probabilities is not None and set(each.probabilities) != classes for each in self.cells):
            raise ValueError("the cells are of other classes than the sample")
        return self


class Served(Answered):
    """A model that is served."""

    task: str
    model: Model
    classes: list[str]
    backbone: str
    engine: str = Field(examples=["openvino-bf16"], description="What runs it.")
    bit_depths: list[int]
    channel: str | None = Field(description="The channel of the export that it was trained on.")
    height_px: tuple[int, int] = Field(description="Smallest and largest height of the cells it was trained on.")
    width_px: tuple[int, int]
    pattern: str | None = Field(description="How file names spell facts, as a Python regular expression.")
    figures: list[str] = Field(description="What `details=true` says of each image.")
    canvas: tuple[int, int] = Field(description="Height and width, px, that cells are centred on.")
    coverage: float = Field(description="Share of conformal sets that hold the true class.")
    simulated: bool
    data_hash: str
    git_commit: str
    made: datetime | None = Field(description="When it was trained; unknown of older bundles.")


class Known(Answered):
    """What /summarise needs of a cell: fields of its answer by /classify_batch with `details=true`."""

    probabilities: list[Annotated[float, Field(ge=0, le=1)]]
    verdict: Verdict
    figures: list[float]


class Part(Answered):
    """Cells of one sample that were answered in several requests."""

    cells: list[Known] = Field(max_length=100_000)


class Difference(Answered):
    """A figure in which images are unlike those that the model knows."""

    figure: str
    name: str = Field(examples=["brightness of the background"])
    distance: float = Field(ge=0, le=1, description="Kolmogorov-Smirnov distance.")
    known: float = Field(description="Median of the cells that the model knows.")
    here: float = Field(description="Median of these cells.")
    edges: list[float] = Field(description="Of the bins of both histograms.")
    known_shares: list[float]
    here_shares: list[float]


class Summary(Answered):
    """What cells of several requests are made of, together."""

    composition: dict[str, Share] | None
    differences: list[Difference] = Field(description="Figures in which these images are strange, the worst first.")


class Examples(Answered):
    """Pictures of cells of the kind that the model knows."""

    pictures: list[str] = Field(description="PNG, base64.")


class Corrected(Answered):
    """What became of a correction."""

    sha256: str
    kept: bool = Field(description="Whether the image was kept, as the person wished.")
    reason: str | None = Field(description="Why a kept image will not be adopted as it is.")


class Refusal(Answered):
    """The body of every answer but 200."""

    error: Problem
