"""The quality of cells: why one is outside the gates around good single cells that were learned from the training data.

A model made before there were gates says nothing of it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields

from fatescope.data import cell_quality, quality_gate
from fatescope.data.quality_gate import REASONS
from fatescope.inference.bundle import Spec
from fatescope.inference.uncertainty import Assessment
from service.inference.decoded_cell import DecodedCell
from service.inference.runner_output import RunnerOutput

Reasons = list[str] | None
"""REASONS of one cell, empty for a good one; None where the model has no gates."""


def is_wanted(spec: Spec, *, requested: bool | None, by_default: bool = False) -> bool:
    """Return whether cells are judged: as `requested`, else `by_default`, and always where cells outside are left out.

    Measuring a cell takes up to a millisecond, which is as long as a small network takes.
    """
    return excludes(spec, requested=None) or (by_default if requested is None else requested)


def judge(cells: Sequence[DecodedCell], spec: Spec, *, wanted: bool = True) -> list[Reasons]:
    """Return the reasons of each of `cells`, measured on brightfield images as they were sent; None if unwanted."""
    if spec.quality is None or not wanted:
        return [None] * len(cells)
    crops = [cell.native if cell.native.ndim == 2 else cell.native[0] for cell in cells]
    features = cell_quality.measure(crops, [cell.bit_depth for cell in cells])
    return [*quality_gate.reasons(spec.quality.outside(features))]


def excludes(spec: Spec, *, requested: bool | None) -> bool:
    """Return whether compositions leave out cells outside: as `requested`, else as it was done in training.

    A model without gates has no cells outside.
    """
    if spec.quality is None:
        return False
    trained_without = bool(spec.params.get("quality", {}).get("exclude", False))
    return trained_without if requested is None else requested


def monitored(
    cells: list[DecodedCell], output: RunnerOutput, assessment: Assessment, judged: Sequence[Reasons], spec: Spec
) -> tuple[list[DecodedCell], RunnerOutput, Assessment]:
    """Return the cells that are comparable with those of the training, for the prediction log, from which drift comes.

    These are all, unless the model was trained without cells outside: its reference has none of them either.
    """
    if not excludes(spec, requested=None):
        return cells, output, assessment
    kept = [row for row, reasons in enumerate(judged) if not reasons]
    parts = RunnerOutput(output.logits[kept], output.distance[kept], output.components[kept])
    chosen = Assessment(*(getattr(assessment, field.name)[kept] for field in fields(Assessment)))
    return [cells[row] for row in kept], parts, chosen


def count(cells: Iterable[Reasons]) -> tuple[int | None, dict[str, int]]:
    """Return how many cells are outside, None where nothing was judged, and reason → cells; a cell may have several."""
    judged = [reasons for reasons in cells if reasons is not None]
    if not judged:
        return None, {}
    by_reason = Counter(reason for reasons in judged for reason in reasons)
    return sum(bool(reasons) for reasons in judged), {name: by_reason[name] for name in REASONS}
