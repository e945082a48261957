"""JSON schemas of a prediction, of what the answers of several endpoints have in common, and of errors."""

from typing import Annotated, Literal

from pydantic import Field

from service.inference.errors import ErrorDetail, ImageWarning, Schema

Reason = Literal["focus", "doublet", "debris", "clipped", "saturated"]
Verdict = Literal["sure", "unsure", "unlike_training"]
Count = Annotated[int, Field(ge=0, le=10**18)]


class ModelVersion(Schema):
    """A version of a registered model."""

    name: str = Field(examples=["fatescope-multiclass"])
    version: str = Field(examples=["3"])


class ActivationMap(Schema):
    """Which regions of the image speak for or against a class."""

    label: str = Field(description="The class that the map speaks for (red) or against (blue).")
    png: str = Field(description="A translucent PNG of the size of the image, base64.")
    scale: float = Field(
        ge=0,
        description="What one position of the map adds to the logit of the class where it is fully red, and takes from "
        "it where it is fully blue.",
    )
    total: float = Field(
        description="What all positions together add to the logit; what is left of it is the same for all cells."
    )
    rows: Count = Field(description="Positions of the map from top to bottom.")
    columns: Count = Field(description="Positions of the map from left to right.")


class CoarseCall(Schema):
    """A coarse class, which joins several classes of the task."""

    label: str = Field(examples=["neuron"])
    probability: float = Field(ge=0, le=1, description="The sum of those of its classes.")


class Prediction(Schema):
    """The prediction for one cell."""

    label: str = Field(examples=["astrocyte"], description="The most probable class.")
    probabilities: dict[str, float] = Field(
        examples=[{"astrocyte": 0.97, "oligodendrocyte": 0.03}],
        description="Calibrated probability of each class, for equal shares of the classes.",
    )
    conformal_set: list[str] = Field(
        examples=[["astrocyte"]],
        description="Contains the true class of 9 in 10 cells like those of the calibration (/models has the share).",
    )
    coarse: CoarseCall | None = Field(
        default=None,
        description="The coarse class of `label`, where the verdict is `sure`, or where it is `unsure` and the coarse "
        "class has the probability from which 9 in 10 of such calls are right; in older models, where it has all "
        "classes of the conformal set. Null elsewhere, and in tasks without coarse classes.",
    )
    verdict: Verdict = Field(
        description="`sure`: the conformal set has one class; `unsure`: it has several; `unlike_training`: the cell is "
        "unlike all training cells, and its label means little.",
    )
    distance: float = Field(
        ge=0, description="Distance from the training cells; above 1 the verdict is `unlike_training`."
    )
    quality: list[Reason] | None = Field(
        default=None,
        description="Why the cell is outside the gates around good single cells: `focus`, `doublet`, `debris`, "
        "`clipped`, `saturated`; empty for a good one, null where the model has no gates.",
    )
    warnings: list[ImageWarning]


class ClassifyResponse(Prediction):
    """The response for one image."""

    model: ModelVersion
    task: str = Field(examples=["multiclass"])
    request_id: str = Field(
        description="Identifies this request in the log, and the cell where it is corrected or labelled (`cell` in "
        "/feedback); also in the header X-Request-ID."
    )
    activation_map: ActivationMap | None = Field(default=None, description="With `explain=true`.")


class ClassShare(Schema):
    """The share of a class in a culture, with a 95 % interval."""

    share: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class CellCounts(Schema):
    """Cells together."""

    cells: Count = Field(description="Classified cells.")
    refused: Count = Field(description="Files and pages that could not be classified.")
    sure: Count
    unsure: Count
    unlike_training: Count
    outside: Count | None = Field(
        default=None, description="Classified cells outside the gates of quality; null where the model has no gates."
    )
    outside_reasons: dict[Reason, Count] = Field(
        default={}, description="How many of them for each reason; a cell may have several."
    )
    called: dict[str, Count] = Field(
        description="Number of cells per predicted class; biased by the confusions of the model."
    )
    composition: dict[str, ClassShare] | None = Field(
        description="Share of each class, corrected for the confusions of the model, among the cells that are not "
        "`unlike_training`, and not outside the gates of quality where these are left out; null if there are none.",
    )


class ErrorResponse(Schema):
    """The body of every response with a status other than 200."""

    error: ErrorDetail
