"""Classify the images of a folder part by part (`service.batch.job`), with the engine and decoder of the service.

Memory is that of a part, not of the source.
"""

import json
import os
import queue
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from fatescope.data.batches import batched
from fatescope.errors import ImageError
from fatescope.inference.uncertainty import Assessment
from service.batch import job
from service.inference import engines
from service.inference.decoding import Readable, Reader, Unreadable
from service.inference.files import MAX_FILE_BYTES, Upload

BATCH = 64
"""Cells in a call to the network."""
AHEAD = 4
"""Batches that are read while the network is at work."""

T = TypeVar("T")


@dataclass(frozen=True)
class Done:
    """What a part came to."""

    part: int
    cells: int
    refused: int


class Scorer:
    """Works on one part after another; one a process."""

    def __init__(self, out: Path, threads: int) -> None:
        """Load the model of `out`, to run on `threads` CPU threads, or on the GPU that this process may use."""
        os.environ[engines.THREADS] = str(threads)
        threadpool_limits(1, user_api="blas")  # see service.runner
        self._out = out
        self._source = Path(json.loads((out / job.PLAN).read_text())["source"])
        self._model, _ = engines.start(out / job.MODEL)
        self._reader = Reader(self._model.spec)

    def score(self, part: int) -> Done:
        """Classify the files of a part and write what comes of it."""
        tables, refused = [], list[dict[str, Any]]()
        for batch in ahead(batched(self._read(job.paths(self._out, part)), BATCH)):
            refused += [_refusal(each) for each in batch if isinstance(each, Unreadable)]
            cells = [each for each in batch if isinstance(each, Readable)]
            if cells:
                prediction = self._model.predict(np.stack([each.pixels for each in cells]))
                tables.append(_table(cells, self._model.assess(prediction), self._model.spec.classes))
        if refused:
            _write(pa.Table.from_pylist(refused, _REFUSAL), job.file(self._out, job.REFUSED, part))
        schema = _schema(self._model.spec.classes)
        written = pa.concat_tables(tables) if tables else schema.empty_table()
        _write(written, job.file(self._out, job.CELLS, part))
        return Done(part, len(written), len(refused))

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


def _table(cells: list[Readable], judged: Assessment, classes: list[str]) -> pa.Table:
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
