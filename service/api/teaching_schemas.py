"""JSON schemas of what is taught from labels."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from fatescope.teaching.head import Design
from service.api.schemas import ModelVersion
from service.inference.errors import ErrorDetail, Schema

MAX_CELLS, MAX_NEXT = 5_000, 200
"""Most cells of a lesson, and most that it says should be labelled next."""
Name = Annotated[str, StringConstraints(max_length=200, pattern="^[^\\x00]*$")]
"""NumPy ends a text before NUL, so that two names could become one."""
Words = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$", strip_whitespace=True)]
"""What somebody has typed: it is in the card of the bundle, where a line break could begin a sentence of its own."""


class TaughtCell(Schema):
    """A cell of a lesson, as /teach/cells describes it."""

    id: Name = Field(description="Whatever the client calls it; answers name it so.")
    label: Words = Field(default="", description="Its class; empty for one that nobody has labelled yet.")
    sample: Name = Field(default="", description="Its sample: cross-validation leaves samples out.")
    image_hash: Annotated[str, Field(pattern=r"^-?\d{1,20}$")]
    height: Annotated[int, Field(ge=1, le=100_000)]
    width: Annotated[int, Field(ge=1, le=100_000)]
    bit_depth: Annotated[int, Field(ge=1, le=16)]
    vector: Annotated[str, Field(max_length=100_000, description="Base64 of float32, little-endian.")]


class DescribedCell(Schema):
    """What a lesson takes of a cell."""

    file: str
    page: int | None
    object: int | None
    upload: int | None
    sample: str | None
    image_hash: str
    height: int
    width: int
    bit_depth: int
    vector: str


class DescribeResponse(Schema):
    """Response of /teach/cells."""

    model: ModelVersion
    task: str
    cells: list[DescribedCell]
    errors: list[ErrorDetail] = Field(description="Of files that cannot be read.")


class LessonRequest(Schema):
    """Cells and their labels."""

    version: Name = Field(description="`model.version` of /teach/cells: vectors of another version say nothing.")
    cells: Annotated[list[TaughtCell], Field(max_length=MAX_CELLS)]
    count: Annotated[int, Field(ge=0, le=MAX_NEXT)] = Field(default=50, description="Cells to label next.")


class BundleRequest(LessonRequest):
    """The same, and what the bundle is called."""

    name: Name = Field(description="The name of its task: letters, digits, - and _.")
    by: Words = Field(default="", description="Who gave the labels.")


class TaughtAccuracy(Schema):
    """A balanced accuracy by cross-validation."""

    value: float
    low: float | None
    high: float | None
    why: str | None = Field(description="Why there is no interval.")


class TaughtClass(Schema):
    """A class of a lesson."""

    label: str
    labels: int
    recall: float


class TaughtShortcut(Schema):
    """What one description of the acquisition says of the labels."""

    description: str
    balanced_accuracy: float
    chance: float
    suspicious: bool
    words: str


class ContradictedLabel(Schema):
    """A label that a head which did not know it contradicts."""

    id: str
    label: str
    called: str
    probability: float


class PopulationSpans(Schema):
    """Objects that a person put together in an analysis."""

    name: str
    spans: list[tuple[int, int]] = Field(description="First and last object number of each span.")


class PopulationsResponse(Schema):
    """Response of /teach/populations."""

    cif: str = Field(description="Name of the native file that the analysis is of.")
    populations: list[PopulationSpans]


class LessonResult(Schema):
    """What was learned."""

    classes: list[TaughtClass]
    reads: Design = Field(description="What the head reads: the embedding, simple features of the cell, or both.")
    left_out: Literal["samples", "cells"] = Field(description="What cross-validation leaves out together.")
    accuracy: TaughtAccuracy
    simple: TaughtAccuracy = Field(description="The same of simple features of the cell alone.")
    shortcuts: list[TaughtShortcut]
    contradicted: list[ContradictedLabel]


class LessonResponse(Schema):
    """Response of /teach/head."""

    model: ModelVersion
    task: str
    lesson: LessonResult | None
    needs: str | None = Field(description="Why there is no lesson yet.")
    next: list[str] = Field(description="Ids of cells without a label, in the order in which they should get one.")
