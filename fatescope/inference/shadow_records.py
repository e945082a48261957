"""What a challenger answered in the shadow of the champion: its records, and how to read them.

Files are Parquet, `RECORDS/TASK/shadow/TIME-CHAMPION-CHALLENGER-PROCESS-NUMBER-TOKEN.parquet`, and `labels-TIME-…` of
cells with a label; they appear complete. A row is a cell that both versions have answered: `time` (UTC), `request_id`,
`cell` (its row in the call), `champion`, `challenger` (versions), `champion_label`, `label` (of the challenger),
`champion_verdict`, `verdict`, `divergence` (half the sum of the differences of all probabilities, 0 to 1),
`champion_distance`, `distance`, `ms` (time of the processor that the challenger took for it, ms), `pixel_hash` (of the
image), `image_hash` (the same as in the prediction log), `dropped` (cells that were not compared since the row before),
`champion_p_CLASS`, `p_CLASS`; and of labelled ones `truth`, `group` (acquisition group, if the name of the file says
it) and `asked` (whether the cell was chosen to be labelled before anyone saw its answer). They hold no pixels.
"""

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

FOLDER = "shadow"
LABELS = "labels-"
"""How the names of files of labelled cells begin."""
TAKEN_BACK = "taken_back.json"
"""Version → why it gets no share of the traffic any more: `time`, `reason`, `detail`."""


def folder(records: Path, task: str) -> Path:
    """Return where the records of a task are."""
    return records / task / FOLDER


def versions(records: Path, task: str) -> tuple[str, str] | None:
    """Return champion and challenger of the newest file, None where there is none."""
    paths = [*folder(records, task).glob("*.parquet")]
    if not paths:
        return None
    newest = max(paths, key=lambda path: path.name.removeprefix(LABELS))
    _, champion, challenger, *_ = newest.name.removeprefix(LABELS).split("-")
    return champion, challenger


def read(records: Path, task: str, champion: str, challenger: str, *, labelled: bool = False) -> pd.DataFrame:
    """Return the rows of two versions, oldest first: those of the traffic, or those with labels; maybe none."""
    prefix = LABELS if labelled else ""
    pattern = f"{prefix}{'[0-9]' * 8}T{'[0-9]' * 6}-{champion}-{challenger}-*.parquet"
    tables = list[pd.DataFrame]()
    for path in sorted(folder(records, task).glob(pattern)):
        try:
            tables.append(pq.read_table(path).to_pandas())
        except FileNotFoundError:  # the service has deleted it since
            continue
    if not tables:
        return pd.DataFrame()
    return pd.concat(tables, ignore_index=True).sort_values("time", kind="stable").reset_index(drop=True)


def taken_back_path(records: Path, task: str) -> Path:
    """Return the file that says whose share of the traffic was taken back."""
    return folder(records, task) / TAKEN_BACK


def read_taken_back(records: Path, task: str) -> dict[str, dict[str, str]]:
    """Return version → why its share was taken back."""
    try:
        content: dict[str, dict[str, str]] = json.loads(taken_back_path(records, task).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content
