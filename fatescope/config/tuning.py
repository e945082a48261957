"""The section `tune` of `params.yaml`: the search for hyperparameters."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from fatescope.config.section import Count, Section, Size
from fatescope.config.training import Train


class Range(Section):
    """A range of numbers to search."""

    low: float
    """Lowest value."""
    high: float
    """Highest value."""
    log: bool
    """Whether to search on a logarithmic scale."""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low must be below high, and above 0 with log, got {self.low} and {self.high}")
        return self


Choice = Annotated[list[bool | str | int | float | Size], Field(min_length=1)]


class Tune(Section):
    """The hyperparameter search of a task."""

    seed: int
    """Seed of the sampler; every trial trains with the first of `train.seeds`."""
    sampler: Literal["tpe", "gp", "random"]
    """Tree-structured Parzen estimator (Bergstra 2011), Gaussian process (Snoek 2012), or random search."""
    startup_trials: Count
    """Random trials before the sampler starts, in each bracket of Hyperband."""
    trials: Annotated[int, Field(ge=0)]
    """Total number of trials over all processes and sessions; with 0 the section `train` is used as it is."""
    minutes: Annotated[float, Field(gt=0)]
    """Minutes of the search of a task. A trial that would not end within them on this machine fails, and is tried again
    under a larger budget; where none ends, the section `train` is used as it is."""
    workers: Count
    """Number of processes that share the study; on a machine with GPUs each takes one."""
    epochs: Count
    """Epochs of a trial that is not pruned."""
    min_epochs: Count
    """Epochs before Hyperband (Li et al. 2018) may prune a trial; up to a third of `epochs` gives several brackets."""
    space: dict[str, Range | Choice]
    """Field of the section `train` → the range or the list of values to search."""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        unknown = sorted(set(self.space) - SEARCHABLE)
        if unknown:
            raise ValueError(f"space names {unknown}; the fields that can be searched are {sorted(SEARCHABLE)}")
        for name, allowed in self.space.items():
            values: list[Any] = [allowed.low, allowed.high] if isinstance(allowed, Range) else allowed
            if isinstance(allowed, Range) and name in INTEGERS:
                values = [int(end) if end.is_integer() else end for end in values]
            for value in values:
                if reason := _why_invalid(name, value):
                    raise ValueError(f"space.{name} cannot be {json.dumps(value)}: {reason}")
        return self


NEVER_SEARCHED = {"seeds", "epochs", "patience", "minutes", "threads", "weights", "freeze", "views", "distil"}
"""Fields of `train` that no trial sets: `views`, as trials classify each cell once, and `distil`, as they have no
teacher."""
SEARCHABLE = set(Train.model_fields) - NEVER_SEARCHED
"""Fields of `train` that a trial may set."""
INTEGERS = {name for name, field in Train.model_fields.items() if field.annotation is int}
"""Fields of `train` that are integers."""


def _why_invalid(name: str, value: object) -> str:
    """Return why the field `name` of the section `train` cannot have `value`; empty where it can."""
    try:
        Train.model_validate_json(json.dumps({name: value}))
    except ValidationError as error:
        # Errors about the other fields, which are missing, do not count.
        return "; ".join(problem["msg"] for problem in error.errors() if problem["loc"][0] == name)
    return ""
