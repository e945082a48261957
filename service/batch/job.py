"""A batch job: a folder of images in parts, which any process on any machine may classify, also after a kill.

The folder OUT holds the whole state:

| file | content |
|---|---|
| `plan.json` | the source, the task, the model and the digest of its bundle, and the numbers of files and parts |
| `files.parquet` | `file` (the path below the source; for a native file one row a piece, and where the model takes \
several channels one row an object, see `service.batch.pieces`), \
`size`, `mtime_ns`, as listed; row group i is part i |
| `model/` | the bundle |
| `cells/PART.parquet` | per cell: `file`, `page`, `object` (the instrument's number), `label`, `verdict`, `distance`, \
`conformal_set`, `coarse` and `coarse_probability` (where the task has coarse classes), `warnings`, \
`quality` (why it is outside the gates; empty for a good one, null where the model has \
none or the plan leaves them out), `p_*` |
| `refused/PART.parquet` | per rejected file, page or object: `file`, `page`, `object`, `code`, `reason`; absent if \
there is none |
| `vanished.parquet` | `file` of those that were listed and are not in the source any more; absent if there is none |
| `summary.json` | written last: counts over all parts |

The cells of a part are written last and in one step, so that a part with such a file is done, and a part that is done
twice gives the same result. Whenever the command runs again, the source is listed again: new files are added, and files
whose size or time of change is another lose their rows and are classified again. Rows of files that have vanished stay.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from service.batch import listing, tables

PLAN, FILES, MODEL, CELLS, REFUSED, SUMMARY = "plan.json", "files.parquet", "model", "cells", "refused", "summary.json"
VANISHED = "vanished.parquet"


@dataclass(frozen=True)
class Summary:
    """Counts over all parts; `summary.json`."""

    cells: int
    labels: dict[str, int]
    verdicts: dict[str, int]
    refused: dict[str, int]
    """Error code → files and pages."""
    vanished: int
    """Files that were listed and are not in the source any more; what they gave is counted above."""


def write_refused(table: pa.Table, out: Path, part: int) -> None:
    """Write the REFUSED of a part, of which there is no file where none was refused."""
    path = part_path(out, REFUSED, part)
    if len(table):
        tables.write(table, path)
    else:
        path.unlink(missing_ok=True)


def part_files(out: Path, part: int) -> list[str]:
    """Return the files of a part, relative to the source."""
    return listing.read_part(out / FILES, part)


def part_path(out: Path, kind: str, part: int) -> Path:
    """Return the path of the CELLS or the REFUSED of a part."""
    return out / kind / f"{part:07}.parquet"


def pending_parts(out: Path, parts: int) -> list[int]:
    """Return the parts that have no result yet."""
    done = {path.name for path in (out / CELLS).glob("[!.]*.parquet")}
    return [part for part in range(parts) if part_path(out, CELLS, part).name not in done]


def summarise(out: Path, parts: int) -> Summary:
    """Count over all parts and write the result; needs every part to be done."""
    labels, verdicts, codes = Counter[str](), Counter[str](), Counter[str]()
    for part in range(parts):
        table = pq.read_table(part_path(out, CELLS, part), columns=["label", "verdict"])
        labels.update(table.column("label").to_pylist())
        verdicts.update(table.column("verdict").to_pylist())
        if (refused := part_path(out, REFUSED, part)).exists():
            codes.update(pq.read_table(refused, columns=["code"]).column("code").to_pylist())
    vanished = pq.read_metadata(out / VANISHED).num_rows if (out / VANISHED).exists() else 0
    summary = Summary(labels.total(), dict(labels), dict(verdicts), dict(codes), vanished)
    tables.write_json(asdict(summary), out / SUMMARY)
    return summary
