"""Results of inference as dictionaries, in the shape of the JSON of a response.

`schemas` and `batch_schemas` of `service.api` describe the same fields for clients. A request may have tens of
thousands of cells, and building a pydantic object for each one costs more than encoding the response.
"""

from typing import NotRequired, TypedDict


class WarningDict(TypedDict):
    """An ImageWarning."""

    code: str
    message: str


class ErrorDict(TypedDict):
    """An ErrorDetail."""

    code: str
    message: str
    file: str | None


class CoarseDict(TypedDict):
    """A CoarseCall."""

    label: str
    probability: float


class PredictionDict(TypedDict):
    """A Prediction for one cell."""

    label: str
    probabilities: dict[str, float]
    conformal_set: list[str]
    coarse: CoarseDict | None
    verdict: str
    distance: float
    quality: list[str] | None
    warnings: list[WarningDict]


class ActivationDict(TypedDict):
    """An ActivationMap."""

    label: str
    png: str
    scale: float
    total: float
    rows: int
    columns: int


class DetailsDict(TypedDict, total=False):
    """The fields that `details=true` adds to a cell."""

    image_hash: str
    thumbnail: str
    thumbnails: dict[str, str]
    figures: list[float]
    place: str


class CellDict(TypedDict, total=False):
    """A CellResult: where the cell comes from, with the fields of a prediction or with `error`."""

    id: str
    image_hash: str
    sample: str | None
    file: str
    page: int | None
    object: int | None
    upload: int | None
    label: str
    probabilities: dict[str, float]
    conformal_set: list[str]
    coarse: CoarseDict | None
    verdict: str
    distance: float
    quality: list[str] | None
    warnings: list[WarningDict]
    thumbnail: str
    thumbnails: dict[str, str]
    figures: list[float]
    place: str
    error: ErrorDict


class ShareDict(TypedDict):
    """A ClassShare."""

    share: float
    low: float
    high: float


class CellCountsDict(TypedDict):
    """The fields that a SampleSummary and a NamedSample have in common."""

    cells: int
    refused: int
    sure: int
    unsure: int
    unlike_training: int
    outside: int | None
    outside_reasons: dict[str, int]
    called: dict[str, int]
    composition: dict[str, ShareDict] | None


class SampleDict(CellCountsDict):
    """A SampleSummary."""

    other_channels: int


class RolesDict(TypedDict):
    """A SampleRoles."""

    condition: str | None
    replicate: str | None
    day: float | None
    dose: float | None
    donor: str | None


class NamedSampleDict(CellCountsDict):
    """A NamedSample without roles, which the service does not know of what it classifies."""

    sample: str | None


class ExportedSampleDict(NamedSampleDict):
    """A NamedSample."""

    roles: RolesDict | None


class ModelDict(TypedDict):
    """A ModelVersion."""

    name: str
    version: str


class AnswerDict(PredictionDict):
    """A ClassifyResponse without an activation map."""

    model: ModelDict
    task: str
    request_id: str


class TrackFrameDict(TypedDict):
    """A TrackFrame."""

    id: str
    time: float
    counts: bool
    probabilities: dict[str, float]


class TrackDict(TypedDict):
    """A TrackResult."""

    sample: str | None
    group: str
    track: str
    label: str
    verdict: str
    since: int
    sure_since: int | None
    frames: list[TrackFrameDict]


class BatchDict(TypedDict):
    """A ClassifyBatchResponse."""

    model: ModelDict
    task: str
    request_id: str
    simulated: bool
    hierarchy: NotRequired[dict[str, list[str]]]
    outside_excluded: bool
    sample: SampleDict
    samples: list[NamedSampleDict]
    tracks: list[TrackDict]
    cells: list[CellDict]
