"""Sections of `params.yaml` about measuring: audit, evaluate."""

from typing import Annotated

from pydantic import Field

from fatescope.config.section import Count, Section


class Audit(Section):
    """How well acquisition alone predicts the class, and above which AUC that is called a shortcut."""

    seed: int
    """Seed of the sample of cells, the folds and the models."""
    max_cells: Count
    """Largest number of cells to audit, sampled equally from each class."""
    folds: Annotated[int, Field(ge=2)]
    """Folds of the cross-validation; reduced where a class has fewer cells or groups."""
    max_groups: Annotated[int, Field(ge=2)]
    """Largest number of groups of one class among which the audit tries to identify the group of a cell."""
    suspect_auc: Annotated[float, Field(ge=0.5, le=1)]
    """A pair of classes is suspect where the AUC is at least this, with 95 % confidence."""
    shortcut_auc: Annotated[float, Field(ge=0.5, le=1)]
    """A pair of classes has a shortcut where it reaches this on pixels that cannot show the cell."""


class Evaluate(Section):
    """How metrics on test cells are computed."""

    seed: int
    """Seed of the simulated mixtures."""
    min_groups: Annotated[int, Field(ge=2)]
    """The card says that intervals are wide where a class has fewer acquisition groups among the test cells."""
    bins: Annotated[int, Field(ge=2)]
    """Number of bins, of equal numbers of cells, of the reliability diagram and the calibration error."""
    mixtures: Count
    """Number of simulated cultures on which the composition estimator is tested."""
    mixture_cells: Count
    """Cells in a simulated culture."""
