"""Where the cells in a data folder come from: `origin.json`.

For imported cells it has `sources`, the exports in the order in which they were imported, and `groups`, the acquisition
groups in that order: on it depends which of them are for the test, see `pipelines.stages.split`.
"""

import json
from pathlib import Path
from typing import Any

from fatescope.data.export_folder import ORIGIN


def read_origin(folder: Path) -> dict[str, Any]:
    """Return the content of `origin.json` in `folder`; empty where there is none."""
    path = folder / ORIGIN
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def write_origin(folder: Path, content: dict[str, Any]) -> None:
    """Write `content` as `origin.json` into `folder`."""
    (folder / ORIGIN).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def is_simulated(folder: Path) -> bool:
    """Return whether `origin.json` in `folder` marks its cells as simulated."""
    return bool(read_origin(folder).get("origin") == "simulated")
