"""Sections of `params.yaml` on what is measured: audit, evaluate."""

from typing import Annotated

from pydantic import Field

from fatescope.config.section import Count, Section


class Audit(Section):
    """What acquisition alone predicts, and when that is called a shortcut."""

    seed: int
    """Seed of the cells chosen, the folds, the models and the intervals."""
    max_cells: Count
    """Cells that are looked at, an equal share of each class."""
    folds: Annotated[int, Field(ge=2)]
    """Folds of the cross-validation; fewer where a class has fewer cells or groups."""
    repeats: Annotated[int, Field(ge=40)]
    """Bootstrap draws behind each 95 % interval."""
    max_groups: Annotated[int, Field(ge=2)]
    """Groups of one class that are told from each other at most."""
    suspect_auc: Annotated[float, Field(ge=0.5, le=1)]
    """A pair is suspect where the lower end of the interval of the AUC reaches this."""
    shortcut_auc: Annotated[float, Field(ge=0.5, le=1)]
    """A pair has a shortcut where it reaches this on pixels that cannot hold the cell."""


class Evaluate(Section):
    """How figures on test cells are taken."""

    seed: int
    """Seed of intervals and mixtures."""
    repeats: Annotated[int, Field(ge=40)]
    """Bootstrap draws behind each 95 % interval."""
    min_groups: Annotated[int, Field(ge=2)]
    """With fewer acquisition groups of a class among the test cells, intervals are said to be rough."""
    bins: Annotated[int, Field(ge=2)]
    """Bins of the reliability diagram and of the calibration error, with equal numbers of cells."""
    mixtures: Count
    """Simulated cultures that the composition estimator is tried on."""
    mixture_cells: Count
    """Cells of each."""
