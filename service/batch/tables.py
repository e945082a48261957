"""Write the files of a batch job in one step, so that nobody sees a part of one."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@contextmanager
def replace(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of `path` when the block ends without an error."""
    # Two processes may work on the same part, if a cluster assumed that one of them was lost.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write(table: pa.Table, path: Path) -> None:
    """Write a table to `path`."""
    with replace(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON document to `path`."""
    with replace(path) as partial:
        partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
