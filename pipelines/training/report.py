"""`models.json` as typed objects: the models of a task, and the candidates that the served one was chosen from.

`pipelines.stages.train` documents the file.
"""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from fatescope.config import Train

FILE = "models.json"


class CandidateReport(BaseModel):
    """One candidate as it was on cells of the scheme that is served, asked of networks that had not seen them."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    members: list[Train]
    """Settings of its networks, with the epochs that their refit took."""
    validation_loss: float
    """Negative log-likelihood, nats, all classes weighted equally; the lowest one is chosen, or what was distilled."""
    validation_balanced_accuracy: float
    temperature: float
    parameters: float
    multiply_adds: float
    """For one cell."""
    fit_seconds: float
    energy_wh: float | None = None
    shortened: bool
    """Whether a fit took fewer steps than planned, because it would have exceeded its time."""


class ModelEntry(BaseModel):
    """One bundle."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    folder: str
    """Relative to the folder of `models.json`."""
    split: str
    """The scheme whose training and validation cells it has seen."""
    candidate: str
    seed: int
    run_id: str
    """Its MLflow run; empty where nothing is tracked."""
    shortened: bool
    """Whether its refit took fewer steps than planned, because it would have exceeded its time."""


class BudgetReport(BaseModel):
    """How the time that training may take was kept."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    minutes: float
    """`train.minutes`."""
    epochs: int
    """`train.epochs`."""
    planned_epochs: int
    """Epochs that all fits were planned with: as many of `epochs` as fit into the minutes."""


class TrainingReport(BaseModel):
    """The content of `models.json`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    chosen: str
    candidates: dict[str, CandidateReport]
    models: list[ModelEntry]
    budget: BudgetReport

    def save(self, folder: Path) -> None:
        """Write `models.json` into `folder`."""
        (folder / FILE).write_text(self.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `models.json` in `folder`."""
        return cls.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
