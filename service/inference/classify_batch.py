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
from fatescope.inference.bundle import Spec
from fatescope.inference.names import cell_id
from fatescope.inference.uncertainty import VERDICTS, Assessment
from service import tracing
from service.inference import metrics, quality, summary
from service.inference.classify import Record, predict, predictions
from service.inference.decoded_cell import DecodedCell, FailedCell
from service.inference.files import Origin, OtherChannel
from service.inference.items import Item, decode
from service.inference.quality import Reasons
from service.inference.results import (
    CellCountsDict,
    CellDict,
    ErrorDict,
    NamedSampleDict,
    PredictionDict,
    SampleDict,
    TrackDict,
)
from service.inference.runner_output import RunnerOutput
from service.inference.served_model import ServedModel
from service.inference.slices import MAX_CELLS, SlicedFile
from service.inference.track_answers import answer_tracks, count_once

CHUNK = 128
"""Cells of a large request that go to the runner together; a request of one cell waits for at most so many."""
MAX_CHUNKS_IN_FLIGHT = 3
"""Chunks of a large request that may wait for the runner while the next one is decoded."""
MAX_SAMPLES = 500
"""Samples that are summarised one by one; a request of more is no set of cultures."""


async def classify_many(  # noqa: PLR0913  what a request may ask for
    files: list[tuple[str, IO[bytes]]],
    model: ServedModel,
    record: Record,
    *,
    request_id: str,
    details: bool,
    max_cells: int,
    exclude_outside: bool = False,
    judge_quality: bool | None = None,
) -> tuple[SampleDict, list[NamedSampleDict], list[TrackDict], list[CellDict]]:
    """Return the summary of all cells, that of each sample, the answer of each track, and the result of each cell.

    Raises RequestError for files that are too large, and for more than `max_cells` cells. Compositions leave out cells
    outside the gates of quality where `exclude_outside`; `judge_quality` asks which these are, by default with
    `details`. In them a cell with several images over time counts once, everywhere else each image is a cell.
    """
    wanted = exclude_outside or quality.is_wanted(model.spec, requested=judge_quality, by_default=details)
    items = decode(files, model, details=details, max_cells=max_cells)
    results = _Results(model, record, request_id, exclude_outside=exclude_outside)
    await _classify(items, model, results, judge_quality=wanted)
    with tracing.span("summarise"):
        whole, samples = await run_in_threadpool(results.summarise)
    tracing.annotate(task=model.spec.task, version=model.champion.version, cells=len(results.cells))
    return whole, samples, results.tracks, results.cells


async def classify_sliced(
    file: SlicedFile, model: ServedModel, record: Record, *, request_id: str, details: bool
) -> list[CellDict]:
    """Return the results of the cells of a native file that are at hand and come next; `file` says how to go on."""
    wanted = quality.is_wanted(model.spec, requested=None, by_default=details)
    cells = file.decode(model.decoder, details=details, max_cells=MAX_CELLS)
    results = _Results(model, record, request_id, exclude_outside=False)
    await _classify((Item(cell, Origin()) for cell in cells), model, results, judge_quality=wanted)
    tracing.annotate(task=model.spec.task, version=model.champion.version, cells=len(results.cells))
    return results.cells


async def _classify(items: Iterator[Item], model: ServedModel, results: "_Results", *, judge_quality: bool) -> None:
    """Add the results of `items`: the next chunk is decoded while the runner works on those before it."""
    chunks = _judge(batched(items, CHUNK), model.spec, wanted=judge_quality)
    in_flight: deque[_Chunk] = deque()
    try:
        while judged := await _next(chunks):
            if len(in_flight) >= MAX_CHUNKS_IN_FLIGHT:
                await results.collect(in_flight.popleft())
            in_flight.append(_Chunk.send(*judged, model))
        while in_flight:
            await results.collect(in_flight.popleft())
    finally:
        # The client has disconnected or a chunk has failed, so that nobody waits for the others.
        for chunk in in_flight:
            if chunk.output:
                chunk.output.cancel()


async def _next(
    chunks: Iterator[tuple[list[Item], list[Reasons]]],
) -> tuple[list[Item], list[Reasons]] | None:
    with tracing.span("decode"):
        judged = await run_in_threadpool(next, chunks, None)
        tracing.annotate(cells=len(judged[1]) if judged else 0)
        return judged


@dataclass(frozen=True)
class _Chunk:
    """Files and cells of a request, and the call to the runner for those that could be decoded."""

    items: list[Item]
    decoded: list[DecodedCell]
    quality: list[Reasons]
    """Of the decoded cells."""
    output: asyncio.Task[RunnerOutput] | None
    """None if no cell could be decoded."""

    @classmethod
    def send(cls, items: list[Item], judged: list[Reasons], model: ServedModel) -> "_Chunk":
        """Start the call to the runner."""
        decoded = [item.cell for item in items if isinstance(item.cell, DecodedCell)]
        if not decoded:
            return cls(items, [], [], None)
        return cls(
            items, decoded, judged, asyncio.create_task(predict(model, np.stack([cell.pixels for cell in decoded])))
        )


class _Results:
    """The results of a large request, collected chunk by chunk."""

    def __init__(self, model: ServedModel, record: Record, request_id: str, *, exclude_outside: bool) -> None:
        self._model, self._record, self._exclude_outside = model, record, exclude_outside
        self._request_id, self._classified = request_id, 0
        self._judged: list[Reasons] = []
        self._assessments: list[Assessment] = []
        self._other_channels = 0
        self.cells: list[CellDict] = []
        self.tracks: list[TrackDict] = []
        """Of what was summarised."""

    async def collect(self, chunk: _Chunk) -> None:
        """Wait for the runner, and add the results of a chunk in the order of its items."""
        cells: Iterator[PredictionDict] = iter(())
        if chunk.output:
            output = await chunk.output
            assessment = output.assess(self._model.spec)
            spec = self._model.spec
            monitored = quality.monitored(chunk.decoded, output, assessment, chunk.quality, spec)
            numbers = {id(cell): self._classified + row for row, cell in enumerate(chunk.decoded)}
            self._record(self._model, *monitored, [numbers[id(cell)] for cell in monitored[0]])
            self._assessments.append(assessment)
            self._judged += chunk.quality
            cells = iter(predictions(chunk.decoded, assessment, spec, chunk.quality))
        for item in chunk.items:
            if isinstance(item.cell, OtherChannel):
                self._other_channels += 1
            elif isinstance(item.cell, DecodedCell):
                self.cells.append(_success(item.cell, item.origin, next(cells), self._next_id()))
            else:
                self.cells.append(_failure(item.cell, item.origin))

    def _next_id(self) -> str:
        self._classified += 1
        return cell_id(self._request_id, self._classified - 1)

    def summarise(self) -> tuple[SampleDict, list[NamedSampleDict]]:
        """Return the summary of all cells that were collected, and that of each sample."""
        assessment = Assessment.concatenate(self._assessments) if self._assessments else None
        self.tracks = answer_tracks(self.cells, self._model.spec, self._model.decoder.parser)
        counted = np.ones(len(assessment.verdicts) if assessment else 0, bool)
        if assessment is not None and self.tracks:
            ids = [cell["id"] for cell in self.cells if "label" in cell]
            assessment, counted = count_once(assessment, self.tracks, ids, self._judged)
        whole: SampleDict = {
            "other_channels": self._other_channels,
            **self._summarise(self.cells, assessment, np.arange(len(counted)), counted),
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
            {"sample": sample, **self._summarise(cells, assessment, np.array(classified.get(sample, []), int), counted)}
            for sample, cells in by_sample.items()
        ]

    def _summarise(
        self,
        cells: list[CellDict],
        assessment: Assessment | None,
        rows: npt.NDArray[np.integer],
        counted: npt.NDArray[np.bool_],
    ) -> CellCountsDict:
        """Return the summary of `cells`, of which the `rows` of `assessment` are those that were classified.

        Rows count for the composition where they are `counted`.
        """
        spec = self._model.spec
        verdicts = Counter(cell["verdict"] for cell in cells if "verdict" in cell)
        labels = Counter(cell["label"] for cell in cells if "label" in cell)
        outside, outside_reasons = quality.count(self._judged[row] for row in rows)
        composed = rows[counted[rows]]
        if self._exclude_outside and len(composed):
            composed = composed[[not self._judged[row] for row in composed]]
        composition = None
        if assessment is not None and len(composed):
            composition = summary.compose(assessment.probabilities[composed], assessment.verdicts[composed], spec)
        sure, unsure, unlike_training = (verdicts[verdict] for verdict in VERDICTS)
        return {
            "cells": labels.total(),
            "refused": len(cells) - labels.total(),
            "sure": sure,
            "unsure": unsure,
            "unlike_training": unlike_training,
            "outside": outside,
            "outside_reasons": outside_reasons,
            "called": {name: labels[name] for name in spec.classes},
            "composition": composition,
        }


def _judge(chunks: Iterator[list[Item]], spec: Spec, *, wanted: bool) -> Iterator[tuple[list[Item], list[Reasons]]]:
    """Yield chunks with the quality of their decoded cells, which is measured faster of many together."""
    for items in chunks:
        cells = [item.cell for item in items if isinstance(item.cell, DecodedCell)]
        yield items, quality.judge(cells, spec, wanted=wanted)


def _success(cell: DecodedCell, origin: Origin, prediction: PredictionDict, identity: str) -> CellDict:
    # Type checkers cannot see that `error` is missing from all of them.
    return cast("CellDict", {**_name(cell, origin), "id": identity, **prediction, **cell.details})


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
