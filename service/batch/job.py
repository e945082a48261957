"""A folder of images as parts, which any process on any machine may work on, or go on with after a kill.

The folder OUT holds all that is needed:

| file | what it holds |
|---|---|
| `plan.json` | the source, the model, and how many files and parts there are |
| `files.parquet` | the paths below the source; row group i is part i |
| `model/` | the bundle |
| `cells/PART.parquet` | of a cell: `file`, `page`, `label`, `verdict`, `distance`, `conformal_set`, `warnings`, `p_*` |
| `refused/PART.parquet` | of a file or page that is no cell: `file`, `page`, `code`, `reason`; may be absent |
| `summary.json` | written last: what all parts have together |

The file of a part's cells is put there last and whole, so that a part which has one is done, and one that is done twice
says the same as once.
"""

import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.data.batches import batched
from fatescope.data.paths import list_files
from fatescope.errors import DataError
from fatescope.inference import bundle
from service.inference.decoding import Reader
from service.registry import model_store
from service.registry.model_store import Champion

PLAN, FILES, MODEL, CELLS, REFUSED, SUMMARY = "plan.json", "files.parquet", "model", "cells", "refused", "summary.json"
PART_FILES = 2_000
"""Files of a part: seconds of a core, so that little is lost with a machine, and a million cells are 500 files."""


@dataclass(frozen=True)
class Plan:
    """What is to be done; `plan.json`."""

    source: str
    model: str
    """Name of the registered model."""
    version: str
    digest: str
    """Of its bundle; see `champions.digest`."""
    files: int
    parts: int


def begun(source: Path, out: Path, model: Path | None) -> Plan | None:
    """Return the plan that `out` has, if any: it goes on with the model that it was begun with.

    Raises DataError where it is for another source, or for another model than the bundle folder `model`.
    """
    if not (out / PLAN).exists():
        return None
    found = Plan(**json.loads((out / PLAN).read_text()))
    other = model is not None and model_store.digest(model) != found.digest
    if found.source != str(source.resolve()) or other:
        raise DataError(
            f"{out}: begun with {found.model} version {found.version} on {found.source}; "
            "name another folder, or remove this one"
        )
    return found


def begin(source: Path, out: Path, champion: Champion) -> Plan:
    """List the images below `source` for `champion` in the folder `out`.

    Raises DataError where nothing is there to be classified, or `out` is no place for what comes of it.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no folder; unpack an archive first")
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out}: below {source}, where it would be read as images; name a folder outside")
    if out.exists() and any(out.iterdir()) and not (out / MODEL).is_dir():
        raise DataError(f"{out}: not empty, and not begun by this command; name another folder")
    for name in (CELLS, REFUSED):
        (out / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(champion.path, out / MODEL, dirs_exist_ok=True)
    reader = Reader(bundle.open_spec(out / MODEL))
    schema, files, parts = pa.schema([("file", pa.string())]), 0, 0
    with pq.ParquetWriter(out / FILES, schema) as writer:
        for paths in batched((path for path in list_files(source) if not reader.is_other(path)), PART_FILES):
            writer.write_table(pa.table({"file": paths}, schema), row_group_size=PART_FILES)
            files, parts = files + len(paths), parts + 1
    if not files:
        raise DataError(f"{source}: no file in it that is not of another channel than the model looks at")
    made = Plan(str(source.resolve()), champion.name, champion.version, model_store.digest(out / MODEL), files, parts)
    # Last: what has no plan is begun again.
    (out / PLAN).write_text(json.dumps(asdict(made), indent=2) + "\n")
    return made


def paths(out: Path, part: int) -> list[str]:
    """Return the files of a part, relative to the source."""
    found: list[str] = pq.ParquetFile(out / FILES).read_row_group(part).column("file").to_pylist()
    return found


def file(out: Path, kind: str, part: int) -> Path:
    """Return where the CELLS or the REFUSED of a part are."""
    return out / kind / f"{part:07}.parquet"


def undone(out: Path, parts: int) -> list[int]:
    """Return the parts that have no result yet."""
    done = {path.name for path in (out / CELLS).glob("[!.]*.parquet")}
    return [part for part in range(parts) if file(out, CELLS, part).name not in done]


def summarise(out: Path, parts: int) -> dict[str, Any]:
    """Count what all parts have, and write it; needs every part done."""
    labels, verdicts, codes = Counter[str](), Counter[str](), Counter[str]()
    for part in range(parts):
        table = pq.read_table(file(out, CELLS, part), columns=["label", "verdict"])
        labels.update(table.column("label").to_pylist())
        verdicts.update(table.column("verdict").to_pylist())
        if (refused := file(out, REFUSED, part)).exists():
            codes.update(pq.read_table(refused, columns=["code"]).column("code").to_pylist())
    told = {"cells": labels.total(), "labels": labels, "verdicts": verdicts, "refused": codes}
    (out / SUMMARY).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
    return told
