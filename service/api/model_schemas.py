"""JSON schemas of the models in service, and of the requests of the page about samples and cells."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from fatescope.config.names import ChannelKind
from service.api.schemas import ClassShare, Count, ModelVersion, Verdict
from service.inference.errors import Schema
from service.shadow.metrics import State


class ChallengerInfo(Schema):
    """The version that answers the same cells in the shadow, as far as the gateway that answers knows."""

    version: str
    state: State = Field(description="What it does, or `given_up` after it could not be loaded several times.")
    reason: str | None = Field(description="Why it does not challenge.")


class TrackReading(Schema):
    """How names say which images are of one cell over time, and how their evidence adds up."""

    group: list[str] = Field(description="Groups of `pattern` that together are the acquisition group.")
    label: str = Field(description="The group whose value is the class.")
    values: list[str] = Field(description="Its values as they are usually spelt; a name may have them in another case.")
    track: str = Field(description="The group that names the cell in it.")
    time: str = Field(description="The group that is the time of an image.")
    correlation: float = Field(description="Of the evidence of two images of one cell.")
    scale: float = Field(description="What the evidence of an image is multiplied by.")


class ModelInfo(Schema):
    """A model in service."""

    task: str
    model: ModelVersion
    classes: list[str]
    hierarchy: dict[str, list[str]] = Field(
        default={}, description="Coarse class → the classes that it joins; empty where the task has none."
    )
    backbone: str
    engine: str = Field(examples=["openvino-bf16"], description="The inference engine that runs it.")
    bit_depths: list[int]
    channel: str | None = Field(description="The channel of the export that it was trained on; of several, the first.")
    channels: dict[str, ChannelKind] = Field(
        default={},
        description="Channel → kind of its image, in the order in which the model takes them; of a model from before "
        "there were several, empty.",
    )
    height_px: tuple[int, int] = Field(description="Smallest and largest height of its training cells.")
    width_px: tuple[int, int]
    pattern: str | None = Field(description="How file names encode facts, as a Python regular expression.")
    tracks: TrackReading | None = Field(
        default=None, description="Null for a model that was trained on one image of each cell."
    )
    figures: list[str] = Field(description="Names of the image features that `details=true` adds to each cell.")
    canvas: tuple[int, int] = Field(description="Height and width, px, of the canvas that cells are centred on.")
    coverage: float = Field(description="Share of conformal sets that contain the true class.")
    excludes_outside: bool | None = Field(
        default=None,
        description="Whether compositions leave out cells outside the gates of quality, unless a request says "
        "otherwise; null for a model without gates.",
    )
    simulated: bool
    prior: list[float] | None = Field(
        default=None, description="Class shares that the probabilities assume, in the order of `classes`."
    )
    data_hash: str
    git_commit: str
    max_cells: int = Field(
        description="Most cells (files, and pages of files) in a request to /classify_batch; more are answered by 413."
    )
    card: str = Field(
        examples=["card/multiclass"],
        description="Address of the model card, relative to that of the service; where keys are set, a link that opens "
        "in a browser for a day.",
    )
    made: datetime | None = Field(description="When it was trained; null for older bundles.")
    challenger: ChallengerInfo | None = Field(
        default=None, description="The version with the alias `challenger`; null without one, or without a shadow."
    )


class SummariseCell(Schema):
    """A cell for /summarise: fields of its result by /classify_batch with `details=true`."""

    probabilities: list[Annotated[float, Field(ge=0, le=1)]]
    verdict: Verdict
    figures: list[float]


class SummariseRequest(Schema):
    """Cells of one sample that were classified in several requests."""

    cells: list[SummariseCell] = Field(max_length=100_000)


class FeatureDifference(Schema):
    """An image feature in which a sample differs from the reference cells of the model."""

    figure: str
    name: str = Field(examples=["brightness of the background"])
    distance: float = Field(ge=0, le=1, description="Kolmogorov-Smirnov distance.")
    known: float = Field(description="Median of the reference cells.")
    here: float = Field(description="Median of the sample.")
    edges: list[float] = Field(description="Bin edges of both histograms.")
    known_shares: list[float]
    here_shares: list[float]


class SummariseResponse(Schema):
    """The cells of several requests together."""

    composition: dict[str, ClassShare] | None
    differences: list[FeatureDifference] = Field(
        description="Image features in which the sample differs from the reference cells, largest difference first."
    )


class ExamplesResponse(Schema):
    """Pictures of cells like those that the model was trained on."""

    pictures: list[str] = Field(description="PNG, base64.")


class FeedbackResponse(Schema):
    """What was stored of a correction."""

    sha256: str | None = Field(description="Of the image; null where only the id of the cell was sent.")
    kept: bool = Field(description="Whether the image was stored, as the user allowed.")
    reason: str | None = Field(description="Why an image was not stored, or cannot be imported as it is.")
    counts: bool = Field(
        default=True,
        description="Whether it is the label that counts of the cell; false where somebody else has said otherwise "
        "before: it is kept beside that.",
    )


class QueuedCell(Schema):
    """A cell that a person is asked to label."""

    id: str = Field(examples=["3f2a90c1d4e7b865-12"], description="That of its answer.")
    image_hash: str = Field(description="64 bits that are equal for equal pixels.")
    time: datetime = Field(description="When it was classified.")
    label: str = Field(description="The predicted class.")
    verdict: Verdict


class QueueResponse(Schema):
    """The newest batch of cells to label."""

    model: ModelVersion
    task: str
    drawn: Count = Field(description="Cells in the batch.")
    labelled: Count = Field(description="How many of them have an answer, in any order.")
    cells: list[QueuedCell] = Field(
        description="The others, in the order in which they should be labelled. Answers count up to the first cell "
        "that has none, so that none should be left out; say of one that nobody can tell that it is so."
    )
    disputed: list[QueuedCell] = Field(
        default=[],
        description="Cells of the batch on whose label people disagree. What was said first counts, until who said it "
        "changes it, or somebody with the scope `admin` says otherwise.",
    )
