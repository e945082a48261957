"""JSON schemas of /describe."""

from typing import Annotated, Literal

from pydantic import Field

from service.api.schemas import CellCounts, Count
from service.inference.errors import Schema

MAX_SHIFTS = 20


class DescribedShift(Schema):
    """A feature in which the images differ from those of the training, of `differences` in the answer of /summarise."""

    figure: str = Field(max_length=100, examples=["background"])
    here: Annotated[float, Field(allow_inf_nan=False)]
    known: Annotated[float, Field(allow_inf_nan=False)]


class CultureFigures(CellCounts):
    """The figures of one culture, as the answers of /classify_batch and /summarise have them. It has no name."""

    called: dict[str, Count] = Field(default={}, description="Not used, but may be sent.")
    outside_excluded: bool = Field(
        default=False, description="Whether the composition leaves out cells outside the gates of quality."
    )
    differences: list[DescribedShift] | None = Field(
        default=None,
        max_length=MAX_SHIFTS,
        description="In what the images differ from those of the training, largest first; null where nothing looked.",
    )
    lossy: Count = Field(default=0, description="Images that lost a part of their content, such as JPEG files.")
    followed: Count = Field(default=0, description="Cells with several images over time; the counts are of images.")
    unusual_sizes: Count = Field(default=0, description="Images of a size that the model was not trained on.")


class DescribeCultureRequest(Schema):
    """A culture to describe."""

    task: str = Field(max_length=64)
    version: str = Field(max_length=100, description="Of the model that classified it; another is answered by 409.")
    culture: CultureFigures


class DescribeCultureResponse(Schema):
    """A paragraph about a culture."""

    text: str = Field(
        description="What was found, what makes it doubtful, and what may not be concluded. Every number in it is one "
        "of the figures that were sent."
    )
    source: Literal["model", "template"] = Field(
        description="Who wrote what was found: the language model of the service, or a template that needs none."
    )
    model: str | None = Field(description="The language model that wrote it, or that was asked in vain.")
    why: str | None = Field(description="Why it is the template's; null where a model wrote it.")
