"""Classify the parts of a batch job (`service.batch.job`) with the engine and decoder of the service.

Memory use depends on the size of a part, not of the source.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from fatescope.data.batches import batched
from fatescope.data.native.names import is_native
from fatescope.errors import ImageError
from fatescope.inference.uncertainty import Assessment
from service.batch import job, pieces, tables
from service.batch.listing import folder_of
from service.batch.prefetch import prefetch
from service.inference import engines
from service.inference.decoding import CellDecoder, DecodedCell, FailedCell
from service.inference.files import MAX_FILE_BYTES, Upload, too_large
from service.settings import EngineName

BATCH = 64
"""Cells per call to the network."""
PREFETCH_BATCHES = 4
"""Batches that are decoded while the network is busy."""


@dataclass(frozen=True)
class PartResult:
    """The outcome of a part."""

    part: int
    cells: int
    refused: int


class Scorer:
    """Classifies one part after another; one per process."""

    def __init__(self, out: Path, engine: EngineName | None, threads: int) -> None:
        """Load the model of `out`, to run on `threads` CPU threads, or on the GPU that this process may use."""
        threadpool_limits(1, user_api="blas")  # see service.runner
        self._out = out
        self._source = folder_of(Path(json.loads((out / job.PLAN).read_text(encoding="utf-8"))["source"]))
        self._model, _ = engines.start(out / job.MODEL, engine, threads)
        self._decoder = CellDecoder(self._model.spec)

    def score(self, part: int) -> PartResult:
        """Classify the files of a part and write the results."""
        schema = _cell_schema(self._model.spec.classes)
        batches, failed = [schema.empty_table()], list[FailedCell]()
        cells = self._decode(job.part_files(self._out, part))
        for batch in prefetch(batched(cells, BATCH), PREFETCH_BATCHES):
            failed += [cell for cell in batch if isinstance(cell, FailedCell)]
            decoded = [cell for cell in batch if isinstance(cell, DecodedCell)]
            if decoded:
                prediction = self._model.predict(np.stack([cell.pixels for cell in decoded]))
                batches.append(_cell_table(decoded, self._model.assess(prediction), self._model.spec.classes))
        job.write_refused(_failure_table(failed), self._out, part)
        table = pa.concat_tables(batches)
        tables.write(table, job.part_path(self._out, job.CELLS, part))
        return PartResult(part, len(table), len(failed))

    def _decode(self, listed: list[str]) -> Iterator[DecodedCell | FailedCell]:
        for path in listed:
            piece = pieces.parse(path)
            try:
                if piece is not None and not (self._source / path).exists():
                    with (self._source / piece.path).open("rb") as raw:
                        yield from self._decoder.decode_native(
                            raw, piece.path, piece.start, objects=piece.objects or None
                        )
                elif is_native(path):
                    with (self._source / path).open("rb") as raw:
                        yield from self._decoder.decode_native(raw, path)
                else:
                    yield from self._decoder.decode(Upload(self._read(path), path))
            except ImageError as error:
                yield FailedCell(path, None, None, error)
            except OSError as error:
                file = pieces.file_of(path)
                yield FailedCell(file, None, None, ImageError("unreadable", f"{file}: {error.strerror}"))

    def _read(self, path: str) -> bytes:
        try:
            if (self._source / path).stat().st_size > MAX_FILE_BYTES:
                raise too_large(path)
            return (self._source / path).read_bytes()
        except OSError as error:
            raise ImageError("unreadable", f"{path}: {error.strerror}") from error


_FAILURE_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("page", pa.int32()),
        ("object", pa.int64()),
        ("code", pa.string()),
        ("reason", pa.string()),
    ]
)


def _failure_table(failed: list[FailedCell]) -> pa.Table:
    rows = [
        {
            "file": cell.file,
            "page": cell.page,
            "object": cell.object,
            "code": cell.error.code,
            "reason": str(cell.error),
        }
        for cell in failed
    ]
    return pa.Table.from_pylist(rows, _FAILURE_SCHEMA)


def _cell_schema(classes: list[str]) -> pa.Schema:
    return pa.schema(
        [
            ("file", pa.string()),
            ("page", pa.int32()),
            ("object", pa.int64()),
            ("label", pa.string()),
            ("verdict", pa.string()),
            ("distance", pa.float32()),
            ("conformal_set", pa.list_(pa.string())),
            ("warnings", pa.list_(pa.string())),
            *((f"p_{name}", pa.float32()) for name in classes),
        ]
    )


def _cell_table(cells: list[DecodedCell], assessment: Assessment, classes: list[str]) -> pa.Table:
    columns = [
        [cell.file for cell in cells],
        [cell.page for cell in cells],
        [cell.object for cell in cells],
        [classes[best] for best in assessment.probabilities.argmax(1).tolist()],
        assessment.verdicts.tolist(),
        assessment.distance,
        [
            [name for name, member in zip(classes, members, strict=True) if member]
            for members in assessment.sets.tolist()
        ],
        [[warning["code"] for warning in cell.warnings] for cell in cells],
        *assessment.probabilities.T,
    ]
    return pa.table(columns, schema=_cell_schema(classes))
