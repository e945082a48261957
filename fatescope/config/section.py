"""The base of every section of `params.yaml`, and the types of its fields."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Size = tuple[Count, Count]


class Section(BaseModel):
    """The base of all sections: refuses unknown fields, wrong types and changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)
