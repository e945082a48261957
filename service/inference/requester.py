"""Who sent the request that the current task answers, where keys are asked for."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Requester:
    """The key of a request, and what was done for it."""

    key: str
    """Name of the key."""
    scopes: frozenset[str] = frozenset()
    """What it may do."""
    cells: int = 0
    """Cells that were classified."""


requester: ContextVar[Requester | None] = ContextVar("requester", default=None)
"""None where no key is asked for."""


def key_name() -> str:
    """Return the name of the key of the current request; empty where no key is asked for."""
    current = requester.get()
    return current.key if current else ""


def count_cells(count: int) -> None:
    """Note that `count` cells were classified for the current request."""
    if (current := requester.get()) is not None:
        current.cells += count
