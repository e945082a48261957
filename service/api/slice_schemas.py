"""JSON schemas of the answer for a native file that is sent in slices, and of which slices are needed next."""

from pydantic import Field

from service.api.batch_schemas import CellResult
from service.api.schemas import Count, ModelVersion
from service.inference.errors import Schema


class SliceSpan(Schema):
    """A slice of a file: its bytes from `start` to before `stop`."""

    start: Count
    stop: Count


class NextSlices(Schema):
    """How to go on with a file that is sent in slices."""

    cursor: str | None = Field(description="To send back as it is; null where nothing was found yet.")
    slices: list[SliceSpan] = Field(description="What the next request needs, about 8 MB together.")


class ClassifySlicesResponse(Schema):
    """The response for slices of a .cif or .rif."""

    model: ModelVersion
    task: str
    request_id: str
    simulated: bool = Field(description="Whether the model was trained on simulated cells.")
    objects: Count | None = Field(description="How many objects the file announces; null where that is not known.")
    cells: list[CellResult] = Field(description="Those that come next; `sample` is null.")
    next: NextSlices | None = Field(description="Null at the end of the file, or where it breaks off.")
