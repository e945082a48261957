"""What a run of a stage reads and writes."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

WRITES = "writes"
"""What marks an option of a stage as a path that it writes."""


@dataclass(frozen=True)
class Stage:
    """A run of a stage."""

    name: str
    about: str
    reads: list[Path]
    writes: list[Path]

    @classmethod
    def of(cls, name: str, main: Callable[..., None], options: dict[str, Any]) -> "Stage":
        """Return the run of the stage `name`, a function called with `options`."""
        hints = get_type_hints(main, include_extras=True)
        paths = {key: value for key, value in options.items() if isinstance(value, Path)}
        written = {key for key in paths if WRITES in get_args(hints[key])}
        task = options.get("task")
        return cls(
            f"{name}@{task}" if task else name,
            (inspect.getdoc(main) or "").strip(),
            [path for key, path in paths.items() if key not in written],
            [path for key, path in paths.items() if key in written],
        )
