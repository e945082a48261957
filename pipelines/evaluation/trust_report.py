"""What reports say of how far a model may be trusted: its calibration, its verdicts and its calls."""

from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from pipelines.evaluation.report import Report


class Calibration(Report):
    """How well probabilities agree with frequencies."""

    ece: float
    """Expected calibration error, in bins of equal numbers of cells."""
    debiased: float | None = None
    """Root mean square calibration error without what chance adds to it; none in reports of before."""
    brier: float
    """Brier score, 0 to 2."""
    loss: float
    """Negative log-likelihood, nats."""

    @model_serializer(mode="wrap")
    def _without_missing_error(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name != "debiased" or value is not None}


class CalibrationChange(Report):
    """Calibration without and with the temperature."""

    before: Calibration
    after: Calibration


class CallShare(Report):
    """The cells that are answered in one way."""

    share: float
    """Of all test cells."""
    accuracy: float | None
    """Share of them whose answer is right; None where there are no such cells, and for those that get no answer."""


class Calls(Report):
    """How cells are answered by a model whose task has coarse classes; the shares add up to one."""

    fine: CallShare
    """By their class, which is sure."""
    coarse: CallShare
    """By a coarse class, because their class is unsure."""
    unsure: CallShare
    """Not even by that."""
    unlike: CallShare
    """Not at all, because they are unlike the training cells."""


class Trust(Report):
    """How conformal sets and verdicts hold on the test cells."""

    coverage: float
    """Share of cells whose conformal set contains their class."""
    coverage_by_class: dict[str, float]
    set_size: float
    """Mean number of classes in a set."""
    unlike: float
    """Share of cells unlike the training cells."""
    unsure: float
    """Share of cells with several classes in their set."""
    accuracy_of_sure: float | None
    """Accuracy on the cells with the verdict `sure`; None where there are none."""
    calls: Calls | None = None
    """Only of a task with coarse classes."""

    @model_serializer(mode="wrap")
    def _without_missing_calls(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name != "calls" or value is not None}
