"""Write the files of a batch job in one step, so that nobody sees a part of one."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.atomic import replacing


def write(table: pa.Table, path: Path) -> None:
    """Write a table to `path`."""
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON document to `path`."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
