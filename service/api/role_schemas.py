"""JSON schemas of the roles of samples: what each is in the experiment."""

from typing import Annotated

from pydantic import Field, StringConstraints

from service.inference.errors import Schema

Name = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Roles(Schema):
    """What a sample is in the experiment, beside its condition."""

    replicate: Name | None = Field(
        default=None,
        description="Samples of a condition with the same one are parts of one culture; without one, each sample is a "
        "culture of its own.",
    )
    day: Finite | None = None
    dose: Finite | None = Field(default=None, description="In one unit for all samples; null or 0 is a control.")
    donor: Name | None = Field(
        default=None, description="Donors with samples in both conditions are compared with themselves."
    )


class SampleRoles(Roles):
    """What a sample is in the experiment."""

    condition: Name | None = Field(default=None, examples=["control"])
