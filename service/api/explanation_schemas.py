"""JSON schemas of activation maps of cells that were classified before."""

from pydantic import Field

from service.api.schemas import ActivationMap, ModelVersion
from service.api.slice_schemas import NextSlices
from service.inference.errors import Schema


class ExplainResponse(Schema):
    """The map of one cell."""

    model: ModelVersion = Field(description="The champion, which may be another version than classified the cell.")
    task: str
    request_id: str
    activation_map: ActivationMap


class ExplainSlicesResponse(Schema):
    """The map of an object of a native file, or what is missing for it."""

    model: ModelVersion = Field(description="The champion, which may be another version than classified the cell.")
    task: str
    request_id: str
    activation_map: ActivationMap | None
    next: NextSlices | None = Field(description="Which slices to send instead of these; null with a map.")
