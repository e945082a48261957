"""Classify the images of a folder, part by part, with the engine and the decoder of the service.

A folder OUT holds all that any process on any machine needs to work on a part, or to go on after a kill:

| file | what it holds |
|---|---|
| `plan.json` | the source, the model, and how many files and parts there are |
| `files.parquet` | the paths below the source; row group i is part i |
| `model/` | the bundle |
| `cells/PART.parquet` | of a cell: `file`, `page`, `label`, `verdict`, `distance`, `conformal_set`, `warnings`, `p_*` |
| `refused/PART.parquet` | of a file or page that is no cell: `file`, `page`, `code`, `reason`; may be absent |
| `summary.json` | written last: what all parts have together |

The file of a part's cells is put there last and whole, so that a part which has one is done, and one that is done twice
says the same as once. Memory is that of a part, not of the source.
"""

import hashlib
import json
import os
import queue
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from pipelines.core import bundle, names
from pipelines.core.errors import DataError, ImageError
from pipelines.core.judgement import Judgement
from service import engines
from service.champions import Champion
from service.reading import Readable, Reader, Unreadable
from service.uploads import MAX_FILE_BYTES, Upload

PLAN, FILES, MODEL, CELLS, REFUSED, SUMMARY = "plan.json", "files.parquet", "model", "cells", "refused", "summary.json"
PART_FILES = 2_000
"""Files of a part: half a minute of a core, so that little is lost with a machine."""
BATCH = 64
"""Cells in a call to the network."""
AHEAD = 4
"""Batches that are read while the network is at work."""

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What is to be done; `plan.json`."""

    source: str
    model: str
    """Name of the registered model."""
    version: str
    digest: str
    """SHA-256 of the spec of the bundle."""
    files: int
    parts: int


@dataclass(frozen=True)
class Done:
    """What a part came to."""

    part: int
    cells: int
    refused: int
    seconds: float


def plan(source: Path, out: Path, champion: Champion) -> Plan:
    """List the images below `source` for `champion` in the folder `out`, or return the plan that is there already.

    Raises DataError where `out` has a plan for something else, or nothing is there to be classified.
    """
    digest = hashlib.sha256((champion.path / bundle.SPEC).read_bytes()).hexdigest()
    known = out / PLAN
    if known.exists():
        found = Plan(**json.loads(known.read_text()))
        if (found.source, found.digest) != (str(source.resolve()), digest):
            raise DataError(
                f"{out}: begun with {found.model} version {found.version} on {found.source}; "
                "name another folder, or remove this one"
            )
        return found
    if out.exists() and any(out.iterdir()) and not (out / MODEL).is_dir():
        raise DataError(f"{out}: not empty, and not begun by this command; name another folder")
    if not source.is_dir():
        raise DataError(f"{source}: no folder; unpack an archive first")
    for name in (CELLS, REFUSED):
        (out / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(champion.path, out / MODEL, dirs_exist_ok=True)
    reader = Reader(bundle.open_spec(out / MODEL))
    schema, files, parts = pa.schema([("file", pa.string())]), 0, 0
    with pq.ParquetWriter(out / FILES, schema) as writer:
        for paths in _batches((path for path in names.list_files(source) if not reader.is_other(path)), PART_FILES):
            writer.write_table(pa.table({"file": paths}, schema), row_group_size=PART_FILES)
            files, parts = files + len(paths), parts + 1
    if not files:
        raise DataError(f"{source}: no file in it that is not of another channel than the model looks at")
    made = Plan(str(source.resolve()), champion.name, champion.version, digest, files, parts)
    known.write_text(json.dumps(asdict(made), indent=2) + "\n")
    return made


def undone(out: Path, parts: int) -> list[int]:
    """Return the parts that have no result yet."""
    done = {path.name for path in (out / CELLS).glob("[!.]*.parquet")}
    return [part for part in range(parts) if _name(part) not in done]


class Scorer:
    """Works on one part after another; one a process."""

    def __init__(self, out: Path, threads: int) -> None:
        """Load the model of `out`, to run on `threads` CPU threads, or on the GPU that this process may use."""
        os.environ[engines.THREADS] = str(threads)
        threadpool_limits(1, user_api="blas")  # see service.runner
        self._out = out
        self._source = Path(json.loads((out / PLAN).read_text())["source"])
        self._model, self.engine = engines.start(out / MODEL)
        self._reader = Reader(self._model.spec)

    def score(self, part: int) -> Done:
        """Classify the files of a part and write what comes of it."""
        begun = time.perf_counter()
        paths = pq.ParquetFile(self._out / FILES).read_row_group(part).column("file").to_pylist()
        tables, refused = [], list[dict[str, Any]]()
        for batch in ahead(_batches(self._read(paths), BATCH)):
            refused += [_refusal(each) for each in batch if isinstance(each, Unreadable)]
            cells = [each for each in batch if isinstance(each, Readable)]
            if cells:
                prediction = self._model.predict(np.stack([each.pixels for each in cells]))
                tables.append(_table(cells, self._model.judge(prediction), self._model.spec.classes))
        if refused:
            _write(pa.Table.from_pylist(refused, _REFUSAL), self._out / REFUSED / _name(part))
        schema = _schema(self._model.spec.classes)
        written = pa.concat_tables(tables) if tables else schema.empty_table()
        _write(written, self._out / CELLS / _name(part))
        return Done(part, len(written), len(refused), time.perf_counter() - begun)

    def _read(self, paths: list[str]) -> Iterator[Readable | Unreadable]:
        for path in paths:
            try:
                yield from self._reader.read(Upload(self._raw(path), path))
            except ImageError as error:
                yield Unreadable(path, None, None, error)

    def _raw(self, path: str) -> bytes:
        try:
            size = (self._source / path).stat().st_size
            if size > MAX_FILE_BYTES:
                raise ImageError("too_large", f"{path}: {size} bytes, more than {MAX_FILE_BYTES}")
            return (self._source / path).read_bytes()
        except OSError as error:
            raise ImageError("unreadable", f"{path}: {error.strerror}") from error


def summarise(out: Path, parts: int) -> dict[str, Any]:
    """Count what all parts have, and write it; needs every part done."""
    cells, labels, verdicts, codes = 0, Counter[str](), Counter[str](), Counter[str]()
    for part in range(parts):
        table = pq.read_table(out / CELLS / _name(part), columns=["label", "verdict"])
        cells += len(table)
        labels.update(table.column("label").to_pylist())
        verdicts.update(table.column("verdict").to_pylist())
        if (out / REFUSED / _name(part)).exists():
            codes.update(pq.read_table(out / REFUSED / _name(part), columns=["code"]).column("code").to_pylist())
    told = {"cells": cells, "labels": labels, "verdicts": verdicts, "refused": codes}
    (out / SUMMARY).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
    return told


def ahead(source: Iterable[T]) -> Iterator[T]:
    """Yield what `source` does, which a thread asks for up to AHEAD items in advance."""
    waiting, end, gone = queue.Queue[Any](AHEAD), object(), threading.Event()

    def ask() -> None:
        try:
            for each in source:
                waiting.put((each, None))
                if gone.is_set():
                    return
            waiting.put((end, None))
        except BaseException as error:  # noqa: BLE001  raised where it is asked for
            waiting.put((end, error))

    thread = threading.Thread(target=ask, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            each, error = waiting.get()
            if error is not None:
                raise error
            if each is end:
                return
            yield each
    finally:
        gone.set()
        # It may wait for a place.
        while not waiting.empty():
            waiting.get_nowait()


def _batches(source: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(source, size)):
        yield batch


def _name(part: int) -> str:
    return f"{part:07}.parquet"


def _write(table: pa.Table, path: Path) -> None:
    # Two processes may be at the same part, where a cluster thought that one of them was lost.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(path)


_REFUSAL = pa.schema([("file", pa.string()), ("page", pa.int32()), ("code", pa.string()), ("reason", pa.string())])


def _refusal(each: Unreadable) -> dict[str, Any]:
    return {"file": each.file, "page": each.page, "code": each.error.code, "reason": str(each.error)}


def _schema(classes: list[str]) -> pa.Schema:
    return pa.schema(
        [
            ("file", pa.string()),
            ("page", pa.int32()),
            ("label", pa.string()),
            ("verdict", pa.string()),
            ("distance", pa.float32()),
            ("conformal_set", pa.list_(pa.string())),
            ("warnings", pa.list_(pa.string())),
            *((f"p_{name}", pa.float32()) for name in classes),
        ]
    )


def _table(cells: list[Readable], judged: Judgement, classes: list[str]) -> pa.Table:
    chosen = judged.probabilities.argmax(1).tolist()
    columns = [
        [each.file for each in cells],
        [each.page for each in cells],
        [classes[i] for i in chosen],
        judged.verdicts.tolist(),
        judged.distance,
        [[name for name, held in zip(classes, each, strict=True) if held] for each in judged.sets.tolist()],
        [[warned.code for warned in each.warnings] for each in cells],
        *judged.probabilities.T,
    ]
    return pa.table(columns, schema=_schema(classes))
