"""Which names of classes and tasks can be used: they become columns, files, folders, URLs, runs and models.

They are checked when the parameters are loaded, so that none of them ends a run after its training.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator

BRIGHTFIELD: Literal["brightfield"] = "brightfield"
DARKFIELD: Literal["darkfield"] = "darkfield"
ChannelKind = Literal["brightfield", "darkfield"]
MAX_CLASS, MAX_TASK = 100, 50
"""Characters. MLflow keeps 250 of a metric, whose name holds that of a class; file systems 255 bytes of a file name."""
TAKEN = {
    "cells": "artifacts/cells is the folder of the stage ingest",
    "audit": "reports/audit is the folder of the stage audit",
    "validation": "reports/validation is the folder of the stage validate",
    "bench": "reports/bench is the folder of the benchmarks",
    "incidents": "fatescope-incidents is the experiment of incidents",
}
"""Names that a task cannot have → why."""


def check_task(name: str) -> str:
    """Return `name`; raises ValueError where a task cannot have it."""
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(f"task name '{name}' must be made of lower-case letters, digits and _")
    if len(name) > MAX_TASK:
        raise ValueError(f"task name '{name[:20]}…' has {len(name)} characters; {MAX_TASK} are allowed")
    if name in TAKEN:
        raise ValueError(f"task name '{name}' is taken: {TAKEN[name]}; choose another")
    return name


def check_class(name: str) -> str:
    """Return `name`, which may have all characters that print but `;`; raises ValueError where no class can have it."""
    if not name or name != name.strip():
        raise ValueError(f"class name '{name}' is empty, or begins or ends with a space")
    if not name.isprintable():
        raise ValueError(f"class name {name!r} has a character that does not print")
    if ";" in name:
        raise ValueError(
            f"class name '{name}' has a ';', which stands between classes in FCS files; choose another name"
        )
    if len(name) > MAX_CLASS:
        raise ValueError(f"class name '{name[:20]}…' has {len(name)} characters; {MAX_CLASS} are allowed")
    return name


def plain_channel(channel: str) -> str:
    """Return a channel without leading zeros, in lower case."""
    return (channel.lstrip("0") or "0") if channel.isascii() and channel.isdecimal() else channel.lower()


TaskName = Annotated[str, AfterValidator(check_task)]
ClassName = Annotated[str, AfterValidator(check_class)]
