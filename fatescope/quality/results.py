"""The result of checking a table against an expectation."""

from typing import Literal, TypedDict


class CheckResult(TypedDict):
    """The result of one expectation, as it is written to `reports/validation.json`."""

    table: str
    """The name of the table."""
    expectation: str
    """What was expected, in words."""
    column: str | None
    """The column that it is about; None where it is about the table."""
    severity: Literal["critical", "warning", "info"]
    """`critical` stops the pipeline."""
    passed: bool
    """Whether the table satisfies it."""
    found: str
    """What the table has instead, in words."""
    unexpected: int | None
    """Number of rows that violate it; None where it is not about rows."""
    where: list[str]
    """The classes and groups of most of those rows."""
