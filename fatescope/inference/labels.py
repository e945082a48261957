"""The labels that persons have given to cells of the queue, or to any other.

They are lines of `corrections.jsonl` that have the id of a cell, or the hash of its pixels. Of several for one cell the
first counts, until its author changes it or a stronger one says otherwise (`fatescope.data.statements`).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fatescope.data import corrections
from fatescope.data.statements import ADMIN, Settled, Statement, settle
from fatescope.inference.names import cell_of


@dataclass(frozen=True)
class Labels:
    """What persons have said of cells; an empty text where they could not tell."""

    by_cell: Mapping[str, list[Statement]]
    by_pixels: Mapping[int, list[Statement]]

    def settle(self, cells: Iterable[str], pixels: Iterable[int]) -> Settled | None:
        """Return which label counts of one cell with these ids and these pixels, None if there is none.

        Of all together: otherwise whoever names a cell in another way than the first one did would overrule that.
        """
        named = [statement for cell in cells for statement in self.by_cell.get(cell, ())]
        seen = [statement for digest in pixels for statement in self.by_pixels.get(int(digest), ())]
        return settle([*named, *seen])

    def of(self, cell: str, pixels: int) -> str | None:
        """Return the label of a cell; None if there is none."""
        settled = self.settle([cell], [pixels])
        return None if settled is None else settled.label


def read_labels(feedback: Path, task: str | None = None) -> Labels:
    """Return what the corrections in a folder say of cells, those of a `task` alone if it is given.

    A line that was cut off, or that names no cell, says nothing.
    """
    by_cell, by_pixels = defaultdict[str, list[Statement]](list), defaultdict[int, list[Statement]](list)
    for place, entry in enumerate(corrections.read(feedback)):
        # The same image is another cell to another task, with other classes.
        if task is not None and entry.get("task", task) != task:
            continue
        try:
            statement = Statement.of(place, entry)
            if cell := str(entry.get("cell") or ""):
                by_cell[cell_of(cell)].append(statement)
            if entry.get("image_hash"):
                by_pixels[int(entry["image_hash"])].append(statement)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return Labels(by_cell, by_pixels)


def append_labels(feedback: Path, task: str, labels: Iterable[tuple[str, str]]) -> int:
    """Write (cell, label) as corrections, an empty label where a person could not tell; return how many there were.

    They overrule those of keys without the scope `admin`: whoever may write to the folder may do all.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    common = {"time": now, "task": task, "by": None, "scope": ADMIN}
    lines = [json.dumps({**common, "cell": cell, "label": label or None}) + "\n" for cell, label in labels]
    with corrections.locked(feedback) as file:
        file.write("".join(lines))
    return len(lines)
