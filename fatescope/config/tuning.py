"""The section `tune` of `params.yaml`: the search for hyperparameters."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from fatescope.config.section import Count, Section, Size
from fatescope.config.training import Train


class Range(Section):
    """A range of numbers that the search may choose from."""

    low: float
    """Lowest value."""
    high: float
    """Highest value."""
    log: bool
    """Whether the logarithm is drawn evenly, not the value."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low must be below high, and above 0 with log, got {self.low} and {self.high}")
        return self


Choice = Annotated[list[bool | str | int | float | Size], Field(min_length=1)]


class Tune(Section):
    """The search for the best fit of one task."""

    seed: int
    """Seed of the sampler; each fit has the first of `train.seeds`."""
    sampler: Literal["tpe", "gp", "random"]
    """Tree of Parzen estimators (Bergstra et al. 2011), Gaussian process (Snoek et al. 2012), or chance."""
    startup_trials: Count
    """Trials that are drawn at random before the sampler learns from them, in each bracket of Hyperband."""
    trials: Annotated[int, Field(ge=0)]
    """Trials in all, over all processes and sessions; with 0 the section `train` stands as it is."""
    minutes: Annotated[float, Field(gt=0)]
    """Minutes after which no trial is begun and a running one ends with the epoch it is in."""
    workers: Count
    """Processes that share the study; on a machine with GPUs each takes one."""
    epochs: Count
    """Epochs of a trial that is not pruned."""
    min_epochs: Count
    """Epochs before Hyperband (Li et al. 2018) may prune a trial; it has several brackets up to a third of `epochs`."""
    space: dict[str, Range | Choice]
    """Field of the section `train` → the range or the list of values that it may take."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        unknown = sorted(set(self.space) - SEARCHABLE)
        if unknown:
            raise ValueError(f"space names {unknown}; what can be searched is {sorted(SEARCHABLE)}")
        for name, allowed in self.space.items():
            values: list[Any] = [allowed.low, allowed.high] if isinstance(allowed, Range) else allowed
            if isinstance(allowed, Range) and name in WHOLE:
                values = [int(end) if end.is_integer() else end for end in values]
            for value in values:
                if wrong := _wrong(name, value):
                    raise ValueError(f"space.{name} cannot be {json.dumps(value)}: {wrong}")
        return self


SEARCHABLE = set(Train.model_fields) - {"seeds", "epochs", "patience", "threads", "weights", "views"}
"""Fields of `train` that a trial may set; it looks at each cell once."""
WHOLE = {name for name, field in Train.model_fields.items() if field.annotation is int}
"""Fields of `train` that are whole numbers."""


def _wrong(name: str, value: object) -> str:
    """Return what the section `train` says of `value` in its field `name`; nothing where it may be that."""
    try:
        Train.model_validate_json(json.dumps({name: value}))
    except ValidationError as error:
        # The other fields are missing, which does not matter here.
        return "; ".join(each["msg"] for each in error.errors() if each["loc"][0] == name)
    return ""
