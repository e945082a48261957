"""Which versions answered at a time, according to the prediction log."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

AROUND = timedelta(minutes=5)
"""How far from a time answers still say something about it."""
_WRITING = timedelta(minutes=1)
"""A file is named after the time when it was written, which is later than that of its first row."""
_FORMAT = "%Y%m%dT%H%M%S"


def versions_at(records: Path, task: str, time: datetime) -> dict[str, int]:
    """Return version → cells that it answered within AROUND of `time`; empty where nothing is recorded of it."""
    first, last = time - AROUND, time + AROUND
    names = first.astimezone(UTC).strftime(_FORMAT), (last + _WRITING).astimezone(UTC).strftime(_FORMAT)
    counts = Counter[str]()
    for path in sorted((records / task).glob("*.parquet")):
        if not names[0] <= path.name.partition("-")[0] <= names[1]:
            continue
        try:
            table = pq.read_table(path, columns=["time", "version"])
        except FileNotFoundError:  # the service has deleted it since
            continue
        near = pc.and_(pc.greater_equal(table["time"], first), pc.less_equal(table["time"], last))
        counts.update(table["version"].filter(near).to_pylist())
    return dict(counts)
