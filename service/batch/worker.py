"""Classify the parts of a batch job (`service.batch.job`) with the engine and decoder of the service.

Memory use depends on the size of a part, not of the source.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits

from fatescope.data.batches import batched
from fatescope.inference import cuda
from fatescope.inference.engine_names import EngineChoice
from fatescope.inference.spec import Spec
from fatescope.inference.uncertainty import Assessment, Prediction, coarse_calls
from service.batch import job, tables
from service.batch.plan import load_plan, source_of
from service.batch.prefetch import prefetch
from service.batch.reading import decode_entry, refuse
from service.inference import engines, quality
from service.inference.decoded_cell import DecodedCell, FailedCell
from service.inference.decoding import CellDecoder
from service.inference.quality import Reasons

BATCH = 64
"""Cells per call to the network."""
EntryReader = Callable[[CellDecoder, Path, str], Iterator[DecodedCell | FailedCell]]
"""What reads an entry, see `decode_entry`."""
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

    def __init__(
        self,
        out: Path,
        engine: EngineChoice | None,
        threads: int,
        read: EntryReader = decode_entry,
        count: Callable[[], None] = lambda: None,
    ) -> None:
        """Load the model of `out`, to run on `threads` CPU threads, or on the GPU that this process may use.

        `count` is called after each cell that was read, and before each batch that is classified.
        """
        threadpool_limits(1, user_api="blas")  # see service.runner
        self._out = out
        self._source, self._read, self._count = source_of(out), read, count
        self._quality = load_plan(out).quality
        self._model, _ = engines.start(out / job.MODEL, engine, threads)
        self._decoder = CellDecoder(self._model.spec)

    def score(self, part: int, refused: Mapping[str, str] = MappingProxyType({})) -> PartResult:
        """Classify the files of a part and write the results; those of entries that are `refused`, with the reason."""
        schema = _cell_schema(self._model.spec)
        batches, failed = [schema.empty_table()], list[FailedCell]()
        cells = self._decode(job.part_files(self._out, part), refused)
        for batch, judged in prefetch(self._judge(batched(cells, BATCH)), PREFETCH_BATCHES):
            self._count()
            failed += [cell for cell in batch if isinstance(cell, FailedCell)]
            decoded = [cell for cell in batch if isinstance(cell, DecodedCell)]
            if decoded:
                prediction = self._predict(np.stack([cell.pixels for cell in decoded]))
                spec, assessment = self._model.spec, self._model.assess(prediction)
                batches.append(_cell_table(decoded, assessment, judged, spec))
        job.write_refused(_failure_table(failed), self._out, part)
        table = pa.concat_tables(batches)
        tables.write(table, job.part_path(self._out, job.CELLS, part))
        return PartResult(part, len(table), len(failed))

    def _predict(self, pixels: npt.NDArray[np.uint16]) -> Prediction:
        try:
            return self._model.predict(pixels, maps=False)
        except Exception as error:
            if not cuda.is_fatal(error):
                raise
            lost = f"the GPU is lost to this process ({cuda.describe(error)}); run the same command again to continue"
            raise engines.GpuLostError(lost) from error

    def _judge(
        self, batches: Iterator[list[DecodedCell | FailedCell]]
    ) -> Iterator[tuple[list[DecodedCell | FailedCell], list[Reasons]]]:
        """Yield batches with the quality of their decoded cells."""
        spec = self._model.spec
        for batch in batches:
            yield (
                batch,
                quality.judge([cell for cell in batch if isinstance(cell, DecodedCell)], spec, wanted=self._quality),
            )

    def _decode(self, listed: list[str], refused: Mapping[str, str]) -> Iterator[DecodedCell | FailedCell]:
        for entry in listed:
            if entry in refused:
                yield refuse(entry, refused[entry])
                continue
            for cell in self._read(self._decoder, self._source, entry):
                self._count()
                yield cell


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


def _cell_schema(spec: Spec) -> pa.Schema:
    coarse = [("coarse", pa.string()), ("coarse_probability", pa.float32())] if spec.hierarchy else []
    return pa.schema(
        [
            ("file", pa.string()),
            ("page", pa.int32()),
            ("object", pa.int64()),
            ("label", pa.string()),
            ("verdict", pa.string()),
            ("distance", pa.float32()),
            ("conformal_set", pa.list_(pa.string())),
            *coarse,
            ("warnings", pa.list_(pa.string())),
            ("quality", pa.list_(pa.string())),
            *((f"p_{name}", pa.float32()) for name in spec.classes),
        ]
    )


def _cell_table(cells: list[DecodedCell], assessment: Assessment, judged: list[Reasons], spec: Spec) -> pa.Table:
    classes = spec.classes
    calls = coarse_calls(assessment, classes, spec.hierarchy, spec.coarse_thresholds)
    coarse = [[call and call.label for call in calls], [call and call.probability for call in calls]]
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
        *(coarse if spec.hierarchy else []),
        [[warning["code"] for warning in cell.warnings] for cell in cells],
        judged,
        *assessment.probabilities.T,
    ]
    return pa.table(columns, schema=_cell_schema(spec))
