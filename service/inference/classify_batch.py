"""Classify the cells of a request for many: chunk by chunk, so that decoding and inference overlap."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

import numpy as np
import numpy.typing as npt
from starlette.concurrency import run_in_threadpool

from fatescope.data.batches import batched
from fatescope.inference.uncertainty import VERDICTS, Assessment
from service.inference import metrics, summary
from service.inference.classify import Record, predict, predictions
from service.inference.decoding import DecodedCell, FailedCell, TooManyCells
from service.inference.errors import RequestError
from service.inference.files import Origin, OtherChannel, unpack
from service.inference.model_pool import ServedModel
from service.inference.results import (
    CellCountsDict,
    CellDict,
    ErrorDict,
    NamedSampleDict,
    PredictionDict,
    SampleDict,
)
from service.inference.runner_output import RunnerOutput


@dataclass(frozen=True)
class Item:
    """A file, or a page of one, and where in the request it comes from."""

    cell: DecodedCell | FailedCell | OtherChannel
    origin: Origin


CHUNK = 128
"""Cells of a large request that go to the runner together; a request of one cell waits for at most so many."""
MAX_CHUNKS_IN_FLIGHT = 3
"""Chunks of a large request that may wait for the runner while the next one is decoded."""
MAX_SAMPLES = 500
"""Samples that are summarised one by one; a request of more is no set of cultures."""


async def classify_many(
    files: list[tuple[str, IO[bytes]]], model: ServedModel, record: Record, *, details: bool, max_cells: int
) -> tuple[SampleDict, list[NamedSampleDict], list[CellDict]]:
    """Return the summary of all cells, that of each sample, and the result of each cell.

    Raises RequestError for files that are too large, and for more than `max_cells` cells.
    The next chunk is decoded while the runner works on those before it.
    """
    chunks = batched(_decode(files, model, details=details, max_cells=max_cells), CHUNK)
    in_flight: deque[_Chunk] = deque()
    results = _Results(model, record)
    try:
        while items := await run_in_threadpool(next, chunks, None):
            if len(in_flight) >= MAX_CHUNKS_IN_FLIGHT:
                await results.collect(in_flight.popleft())
            in_flight.append(_Chunk.send(items, model))
        while in_flight:
            await results.collect(in_flight.popleft())
    finally:
        # The client has disconnected or a chunk has failed, so that nobody waits for the others.
        for chunk in in_flight:
            if chunk.output:
                chunk.output.cancel()
    whole, samples = await run_in_threadpool(results.summarise)
    return whole, samples, results.cells


@dataclass(frozen=True)
class _Chunk:
    """Files and cells of a request, and the call to the runner for those that could be decoded."""

    items: list[Item]
    decoded: list[DecodedCell]
    output: asyncio.Task[RunnerOutput] | None
    """None if no cell could be decoded."""

    @classmethod
    def send(cls, items: list[Item], model: ServedModel) -> "_Chunk":
        """Start the call to the runner."""
        decoded = [item.cell for item in items if isinstance(item.cell, DecodedCell)]
        if not decoded:
            return cls(items, [], None)
        return cls(items, decoded, asyncio.create_task(predict(model, np.stack([cell.pixels for cell in decoded]))))


class _Results:
    """The results of a large request, collected chunk by chunk."""

    def __init__(self, model: ServedModel, record: Record) -> None:
        self._model, self._record = model, record
        self._assessments: list[Assessment] = []
        self._other_channels = 0
        self.cells: list[CellDict] = []

    async def collect(self, chunk: _Chunk) -> None:
        """Wait for the runner, and add the results of a chunk in the order of its items."""
        cells: Iterator[PredictionDict] = iter(())
        if chunk.output:
            output = await chunk.output
            assessment = output.assess(self._model.spec)
            self._record(self._model, chunk.decoded, output, assessment)
            self._assessments.append(assessment)
            cells = iter(predictions(chunk.decoded, assessment, self._model.spec))
        for item in chunk.items:
            if isinstance(item.cell, OtherChannel):
                self._other_channels += 1
            elif isinstance(item.cell, DecodedCell):
                self.cells.append(_success(item.cell, item.origin, next(cells)))
            else:
                self.cells.append(_failure(item.cell, item.origin))

    def summarise(self) -> tuple[SampleDict, list[NamedSampleDict]]:
        """Return the summary of all cells that were collected, and that of each sample."""
        assessment = Assessment.concatenate(self._assessments) if self._assessments else None
        whole: SampleDict = {
            "other_channels": self._other_channels,
            **self._summarise(self.cells, assessment, np.arange(len(assessment.verdicts) if assessment else 0)),
        }
        by_sample: dict[str | None, list[CellDict]] = {}
        classified: dict[str | None, list[int]] = {}
        row = 0
        for cell in self.cells:
            by_sample.setdefault(cell["sample"], []).append(cell)
            if "label" in cell:
                classified.setdefault(cell["sample"], []).append(row)
                row += 1
        if len(by_sample) > MAX_SAMPLES:
            return whole, []
        return whole, [
            {"sample": sample, **self._summarise(cells, assessment, np.array(classified.get(sample, []), int))}
            for sample, cells in by_sample.items()
        ]

    def _summarise(
        self, cells: list[CellDict], assessment: Assessment | None, rows: npt.NDArray[np.integer]
    ) -> CellCountsDict:
        """Return the summary of `cells`, of which the `rows` of `assessment` are those that were classified."""
        spec = self._model.spec
        verdicts = Counter(cell["verdict"] for cell in cells if "verdict" in cell)
        labels = Counter(cell["label"] for cell in cells if "label" in cell)
        composition = None
        if assessment is not None and len(rows):
            composition = summary.compose(assessment.probabilities[rows], assessment.verdicts[rows], spec)
        sure, unsure, unlike_training = (verdicts[verdict] for verdict in VERDICTS)
        return {
            "cells": labels.total(),
            "refused": len(cells) - labels.total(),
            "sure": sure,
            "unsure": unsure,
            "unlike_training": unlike_training,
            "called": {name: labels[name] for name in spec.classes},
            "composition": composition,
        }


def _decode(files: list[tuple[str, IO[bytes]]], model: ServedModel, *, details: bool, max_cells: int) -> Iterator[Item]:
    cells = 0
    for file in unpack(files, model.decoder.is_other_channel):
        if isinstance(file, OtherChannel):
            yield Item(file, Origin())
            continue
        try:
            # Raised before any page of the file is decoded.
            for cell in model.decoder.decode(file, details=details, max_cells=max_cells - cells):
                cells += 1
                yield Item(cell, file.origin)
        except TooManyCells as error:
            raise RequestError(
                413, "too_many_cells", f"{file.name}: with it, the request has more than {max_cells:,} cells; send the "
                "cells in several requests",
            ) from error  # fmt: skip


def _success(cell: DecodedCell, origin: Origin, prediction: PredictionDict) -> CellDict:
    # Type checkers cannot see that `error` is missing from all of them.
    return cast("CellDict", {**_name(cell, origin), **prediction, **cell.details})


def _failure(cell: FailedCell, origin: Origin) -> CellDict:
    metrics.REFUSED.labels(cell.error.code).inc()
    error: ErrorDict = {"code": cell.error.code, "message": str(cell.error), "file": cell.file}
    return {**_name(cell, origin), "error": error}


def _name(cell: DecodedCell | FailedCell, origin: Origin) -> CellDict:
    return {
        "sample": origin.sample,
        "file": cell.file,
        "page": cell.page,
        "object": cell.object,
        "upload": origin.upload,
    }
