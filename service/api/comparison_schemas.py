"""JSON schemas of /compare."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.api.role_schemas import Name, Roles, SampleRoles
from service.api.schemas import ClassShare, Count
from service.inference.errors import Schema

MAX_SAMPLES, MAX_CONDITIONS = 5_000, 200
Share = Annotated[float, Field(ge=0, le=1)]


class ComparedSample(Roles):
    """A sample of /compare: its roles, and what was classified of it."""

    sample: Name
    condition: Name = Field(examples=["control"])
    cells: Count = Field(description="Cells that count in its composition; a sample with 0 is left out.")
    mean: dict[str, Share] = Field(description="Mean probability of each class over these cells.")
    called: dict[str, Count] = Field(default={}, description="Cells per predicted class; not used, but may be sent.")
    shares: dict[str, Share] | None = Field(
        default=None,
        description="Its shares as `composition` has them in the answers of /summarise and /classify_batch; null: they "
        "are computed from `mean`, and may differ slightly.",
    )


class CompareRequest(Schema):
    """Samples to compare."""

    task: str = Field(max_length=64)
    version: str = Field(max_length=100, description="Of the model that classified them; another is answered by 409.")
    samples: list[ComparedSample] = Field(min_length=1, max_length=MAX_SAMPLES)
    reference: Name | None = Field(
        default=None, description="The condition that others are compared with; null: that of the first sample."
    )
    dose_unit: Annotated[str, Field(max_length=100)] | None = Field(
        default=None, description="Of the doses, which the sentences name.", examples=["µM"]
    )

    @model_validator(mode="after")
    def _check_conditions(self) -> Self:
        count = len({sample.condition for sample in self.samples})
        if count > MAX_CONDITIONS:
            raise ValueError(f"{count} conditions, and at most {MAX_CONDITIONS} are compared; merge some")
        return self


class DifferenceOfCondition(Schema):
    """How the share of a class differs between a condition and the reference."""

    condition: str
    reference: str
    name: str = Field(alias="class", description="The class.")
    day: float | None = Field(description="Days are never mixed: there is a difference for each; null without days.")
    dose: float | None
    difference: float = Field(description="Share in the condition less that in the reference.")
    low: float | None = Field(description="95 % interval, from replicates; null where `why_not` says why.")
    high: float | None
    p_value: float | None
    replicates: tuple[int, int] = Field(description="Of the condition and of the reference; donors where these count.")
    pairs: int | None = Field(description="Donors who are compared with themselves; null where sides are.")
    differs: bool = Field(description="Whether the interval leaves out 0.")
    sentence: str
    why_not: str | None = Field(description="Why there is neither an interval nor a p-value.")


class SampleShares(SampleRoles):
    """The class shares of a sample, with its roles."""

    sample: str
    class_shares: dict[str, ClassShare]


class CurvePoint(Schema):
    """The mean share over the replicates of a day or a dose."""

    x: float
    share: float
    low: float | None = Field(description="95 % interval of the mean, from replicates; null of a single one.")
    high: float | None
    replicates: int


class CurveOfShares(Schema):
    """The share of a class in a condition over days, or over doses."""

    axis: Literal["day", "dose"]
    condition: str
    at: float | None = Field(description="The dose of a curve over days, the day of one over doses.")
    name: str = Field(alias="class")
    points: list[CurvePoint]
    sentence: str | None = Field(
        description="From which day on the condition differs from the reference (the reference, and any condition over "
        "doses: from its own first one), at 5 % for the whole curve; null where nothing could be tested."
    )


class CompareResponse(Schema):
    """How samples differ between conditions; the unit is the replicate."""

    task: str
    version: str
    level: float = Field(description="Of the intervals.")
    unit: Literal["replicate"]
    reference: str
    differences: list[DifferenceOfCondition]
    samples: list[SampleShares]
    curves: list[CurveOfShares]
    left_out: list[str] = Field(description="Samples without a cell that counts.")
