"""JSON schemas of the answer for many images: its cells, its samples, and cells with several images over time."""

from typing import Self

from pydantic import Field, model_validator

from service.api.role_schemas import SampleRoles
from service.api.schemas import CellCounts, CoarseCall, Count, ModelVersion, Reason, Verdict
from service.inference.errors import ErrorDetail, ImageWarning, Schema


class CellResult(Schema):
    """The result for one image of many: either a prediction or `error`."""

    id: str | None = Field(
        default=None,
        examples=["3f2a90c1d4e7b865-0"],
        description="Names this answer where the cell is corrected or labelled (`cell` in /feedback).",
    )
    sample: str | None = Field(
        default=None,
        examples=["run1"],
        description="The zip archive and folder, without what all files of the request share; null for a loose file. "
        "With `file` it names one file of the request.",
    )
    file: str = Field(
        examples=["run1/a_1d1_3_Ch1.ome.tif"],
        description="The file name; in a zip archive, the path, with `/` between folders.",
    )
    page: Count | None = Field(description="Page of a file with several, from 0.")
    object: Count | None = Field(
        examples=[3], description="The instrument's number for the cell, if the file name has one."
    )
    upload: Count | None = Field(
        default=None, description="Position in the request of the file, or of the zip archive that it is in, from 0."
    )
    label: str | None = None
    probabilities: dict[str, float] | None = None
    conformal_set: list[str] | None = None
    coarse: CoarseCall | None = Field(default=None, description="As in the response to /classify.")
    verdict: Verdict | None = None
    distance: float | None = None
    quality: list[Reason] | None = Field(
        default=None, description="Why the cell is outside the gates; empty for a good one, null without gates."
    )
    warnings: list[ImageWarning] | None = None
    thumbnail: str | None = Field(
        default=None,
        description="With `details=true`: a small PNG, base64; of the first channel where there are several.",
    )
    thumbnails: dict[str, str] | None = Field(
        default=None, description="With `details=true`, of a model of several channels: that of each channel."
    )
    image_hash: str | None = Field(
        default=None,
        description="With `details=true`: 64 bits that are equal for equal pixels, by which /queue names cells too.",
    )
    figures: list[float] | None = Field(
        default=None, description="With `details=true`: the image features that /models lists, in that order."
    )
    place: str | None = Field(
        default=None,
        examples=["29-31-482133-0"],
        description="With `details=true`, of an object of a native file: where it is in the file, for /explain_slices. "
        "The third number is the byte at which its directory begins.",
    )
    error: ErrorDetail | None = None

    @model_validator(mode="after")
    def _check_prediction_or_error(self) -> Self:
        prediction = (
            self.label,
            self.probabilities,
            self.conformal_set,
            self.verdict,
            self.distance,
            self.warnings,
        )
        if (self.error is None) != all(field is not None for field in prediction):
            raise ValueError("a cell has either all fields of a prediction or an error")
        if self.label is not None and self.label not in (self.probabilities or {}):
            raise ValueError("the label is not one of the classes")
        return self


class SampleSummary(CellCounts):
    """All cells of a request together."""

    other_channels: Count = Field(description="Files of channels that the model does not use; they are not listed.")


class NamedSample(CellCounts):
    """The cells of one sample of a request."""

    sample: str | None = Field(description="As in `cells`.")
    roles: SampleRoles | None = Field(
        default=None, description="Taken by /export, for the keywords of FCS; null in the answers of /classify_batch."
    )


class TrackFrame(Schema):
    """One of the images of a cell over time."""

    id: str = Field(description="That of its own answer, in `cells`.")
    time: float = Field(description="As its name has it.")
    counts: bool = Field(description="False for an image that is unlike the training cells, which says nothing.")
    probabilities: dict[str, float] = Field(description="Of each class, by all images up to this one.")


class TrackResult(Schema):
    """The answer for a cell with several images over time, by all of them together."""

    sample: str | None
    group: str = Field(examples=["a_1d1"], description="The acquisition group, as the names have it.")
    track: str = Field(examples=["17"], description="Names the cell within the group.")
    label: str = Field(description="The most probable class after the last image.")
    verdict: Verdict = Field(
        description="`sure`: its probability is at least the coverage of conformal sets (/models); `unsure`: it is "
        "not; `unlike_training`: all images are unlike the training cells."
    )
    since: Count = Field(description="The image, from 0, from which on the most probable class stays that one.")
    sure_since: Count | None = Field(description="That from which on the call is sure as well; null where it is not.")
    frames: list[TrackFrame] = Field(description="In the order of time.")


class ClassifyBatchResponse(Schema):
    """The response for many images."""

    model: ModelVersion
    task: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    request_id: str
    simulated: bool = Field(description="Whether the model was trained on simulated cells.")
    hierarchy: dict[str, list[str]] = Field(
        default={}, description="Coarse class → the classes that it joins; empty where the task has none."
    )
    outside_excluded: bool = Field(
        default=False, description="Whether compositions leave out cells outside the gates of quality."
    )
    sample: SampleSummary
    samples: list[NamedSample] = Field(
        default=[], description="The same for each sample; empty where there are more than 500."
    )
    tracks: list[TrackResult] = Field(
        default=[],
        description="Cells with several images over time, of a model that was trained on such: which images are of one "
        "cell is read from their names. In compositions such a cell counts once; everything else counts images.",
    )
    cells: list[CellResult]

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        classes = set(self.sample.called)
        if any(cell.probabilities is not None and set(cell.probabilities) != classes for cell in self.cells):
            raise ValueError("the classes of the cells differ from those of the sample")
        return self
