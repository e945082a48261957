"""What a person says of an export beforehand, and what is said to that person."""

from dataclasses import dataclass, field
from pathlib import Path

from fatescope.config.names import MAX_CLASS

Values = dict[str, dict[str, object]]
"""Section of params.yaml → field → value."""


@dataclass(frozen=True)
class Wishes:
    """What a person says beforehand."""

    label: str | None = None
    """The named group, one of its values, or the column of a sheet that is the class."""
    channel: str | None = None
    """The channel that the model sees."""
    sheet: Path | None = None
    """A table that is not in the export."""


@dataclass
class Words:
    """What a person is told."""

    sure: list[str] = field(default_factory=list)
    """What was found."""
    decide: list[str] = field(default_factory=list)
    """What that person should decide or know."""


def class_name(text: str) -> str:
    """Return what a folder, a cell of a sheet or a population is called, as a class may be called."""
    printable = "".join(character for character in text if character.isprintable()).replace(";", ",")
    return printable.strip()[:MAX_CLASS].strip() or "unnamed"


def shown(counts: dict[str, int]) -> str:
    """Return names and their counts as text."""
    return ", ".join(f"{name or '(none)'} {count:,}" for name, count in counts.items())
