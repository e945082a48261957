"""What several people say of one cell, and whose label counts.

The first label of a cell counts until its own author changes it, or somebody with a stronger scope says otherwise.
Labels of others are kept beside it: where they differ, the cell is disputed. Otherwise whoever may send corrections at
all could relabel what somebody who knows better has said, and so decide how right a model seems to be.

Each correction has `by`, the name of its API key, and `scope`, the strongest that the key has (SCOPES). Without a name
are corrections to a service that asks for no key, those of the command `fatescope labels read`, which has the scope
`admin`, and those of earlier versions: whoever these are from, they count as one author.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

FEEDBACK, ADMIN = "feedback", "admin"
SCOPES = (FEEDBACK, ADMIN)
"""The weaker first."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A label that somebody has given to a cell."""

    place: int
    """The number of its line: later ones have higher numbers."""
    label: str
    """Empty where its author cannot tell."""
    by: str | None
    """Its author: the name of a key; None without one."""
    strength: int
    """Of the scope of its author: the index in SCOPES."""

    @classmethod
    def of(cls, place: int, line: dict[str, Any]) -> "Statement":
        """Return what a correction says; raises KeyError where it has no label."""
        by, scope = line.get("by"), line.get("scope")
        strength = SCOPES.index(scope) if scope in SCOPES else 0
        return cls(place, str(line["label"] or ""), None if by is None else str(by), strength)


@dataclass(frozen=True, slots=True)
class Settled:
    """Which of several statements counts."""

    statement: Statement
    disputed: bool
    """Whether somebody else says otherwise: not those whom a stronger one has overruled since."""

    @property
    def label(self) -> str:
        """Return the label that counts; empty where its author cannot tell."""
        return self.statement.label


def settle(statements: Iterable[Statement]) -> Settled | None:
    """Return which of the statements about one cell counts, whatever order they are given in; None without any."""
    counts: Statement | None = None
    last: dict[str | None, Statement] = {}
    for statement in sorted(statements, key=lambda each: each.place):
        last[statement.by] = statement
        if counts is None or may_replace(counts, statement):
            counts = statement
    if counts is None:
        return None
    disputed = any(
        other.label != counts.label and not (other.place < counts.place and other.strength < counts.strength)
        for other in last.values()
    )
    return Settled(counts, disputed)


def may_replace(counts: Statement, later: Statement) -> bool:
    """Return whether a later statement takes the place of the one that counts."""
    return later.by == counts.by or later.strength > counts.strength
