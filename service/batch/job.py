"""A batch job: a folder of images in parts, which any process on any machine may classify, also after a kill.

The folder OUT holds the whole state:

| file | content |
|---|---|
| `plan.json` | the source, the model, and the numbers of files and parts |
| `files.parquet` | the paths below the source; row group i is part i |
| `model/` | the bundle |
| `cells/PART.parquet` | per cell: `file`, `page`, `label`, `verdict`, `distance`, `conformal_set`, `warnings`, `p_*` |
| `refused/PART.parquet` | per rejected file or page: `file`, `page`, `code`, `reason`; absent if there is none |
| `summary.json` | written last: counts over all parts |

The cells of a part are written last and in one step, so that a part with such a file is done, and a part that is done
twice gives the same result.
"""

import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.data import instruments
from fatescope.data.batches import batched
from fatescope.data.paths import list_files
from fatescope.errors import DataError
from fatescope.inference import bundle
from service.inference.decoding import CellDecoder
from service.registry import model_store
from service.registry.model_store import Champion

PLAN, FILES, MODEL, CELLS, REFUSED, SUMMARY = "plan.json", "files.parquet", "model", "cells", "refused", "summary.json"
PART_FILES = 2_000
"""Files per part: seconds of work, so that little is lost with a machine, and a million cells are 500 parts."""


@dataclass(frozen=True)
class Plan:
    """The work to do; `plan.json`."""

    source: str
    model: str
    """Name of the registered model."""
    version: str
    digest: str
    """Digest of its bundle; see `model_store.digest`."""
    files: int
    parts: int


@dataclass(frozen=True)
class Summary:
    """Counts over all parts; `summary.json`."""

    cells: int
    labels: dict[str, int]
    verdicts: dict[str, int]
    refused: dict[str, int]
    """Error code → files and pages."""


def read_plan(source: Path, out: Path, model: Path | None) -> Plan | None:
    """Return the plan in `out`, or None if there is none: a job continues with the model that it started with.

    Raises DataError if it is for another source, or for another model than the bundle folder `model`.
    """
    if not (out / PLAN).exists():
        return None
    plan = Plan(**json.loads((out / PLAN).read_text(encoding="utf-8")))
    other_model = model is not None and model_store.digest(model) != plan.digest
    if plan.source != str(source.resolve()) or other_model:
        raise DataError(
            f"{out}: started with {plan.model} version {plan.version} on {plan.source}; "
            "name another folder, or remove this one"
        )
    return plan


def create_plan(source: Path, out: Path, champion: Champion) -> Plan:
    """List the images below `source` for `champion` in the folder `out`.

    Raises DataError if there are no images, or if `out` is not suitable.
    """
    if not source.is_dir():
        if instrument := instruments.explain_file(source):
            raise DataError(f"{source}: {instrument}")
        raise DataError(f"{source}: not a folder; unpack an archive first")
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out}: below {source}, where it would be read as images; name a folder outside")
    if out.exists() and any(out.iterdir()) and not (out / MODEL).is_dir():
        raise DataError(f"{out}: not empty, and not made by this command; name another folder")
    for name in (CELLS, REFUSED):
        (out / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(champion.path, out / MODEL, dirs_exist_ok=True)
    decoder = CellDecoder(bundle.open_spec(out / MODEL))
    inputs = (path for path in list_files(source) if not decoder.is_other_channel(path))
    schema, files, parts = pa.schema([("file", pa.string())]), 0, 0
    with pq.ParquetWriter(out / FILES, schema) as writer:
        for part in batched(inputs, PART_FILES):
            writer.write_table(pa.table({"file": part}, schema), row_group_size=PART_FILES)
            files, parts = files + len(part), parts + 1
    if not files:
        raise DataError(f"{source}: no file in it, except those of channels that the model does not use")
    digest = model_store.digest(out / MODEL)
    plan = Plan(str(source.resolve()), champion.name, champion.version, digest, files, parts)
    # Last, because a job without a plan starts anew.
    (out / PLAN).write_text(json.dumps(asdict(plan), indent=2) + "\n", encoding="utf-8")
    return plan


def part_files(out: Path, part: int) -> list[str]:
    """Return the files of a part, relative to the source."""
    files: list[str] = pq.ParquetFile(out / FILES).read_row_group(part).column("file").to_pylist()
    return files


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
    summary = Summary(labels.total(), dict(labels), dict(verdicts), dict(codes))
    (out / SUMMARY).write_text(json.dumps(asdict(summary), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return summary
