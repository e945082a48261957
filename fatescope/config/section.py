"""The base of every section of `params.yaml`, and the types of its fields."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Size = tuple[Count, Count]


class Section(BaseModel):
    """A section of `params.yaml`: unknown fields, wrong types and later changes are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)
