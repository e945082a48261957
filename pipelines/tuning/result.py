"""`best.json` as typed objects: what a search found. `pipelines.stages.tune` documents the file."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from fatescope.atomic import replacing


class BestTrial(BaseModel):
    """A trial to train with."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    number: int | None
    """None for the section `train` as it stands."""
    state: str | None = None
    """`complete`, or `pruned` for a member of an ensemble."""
    value: float | None
    """Balanced accuracy on the validation cells; of a pruned trial, the best that it had reached."""
    params: dict[str, Any]
    """The fields of the section `train` that it sets, as JSON types."""


class FailedTrial(BaseModel):
    """A trial that failed."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    number: int
    reason: str
    params: dict[str, Any]


class SearchResult(BaseModel):
    """The content of `best.json`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    study: str | None
    """Name of the study; None without a search."""
    sampler: str | None
    trials: dict[str, int]
    """State → number of trials."""
    failures: list[FailedTrial]
    best: BestTrial
    members: list[BestTrial]
    """Trials for the networks of an ensemble, the best first."""

    def save(self, path: Path) -> None:
        """Write the file; several processes of one search may end together."""
        with replacing(path) as part:
            part.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))


STANDS = BestTrial(number=None, value=None, params={})
"""The section `train` as it stands."""
