"""From uploads to answers: what one image and many have in common."""

import asyncio
import base64
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from starlette.concurrency import run_in_threadpool

from fatescope.errors import ImageError
from fatescope.inference import cam, uncertainty
from fatescope.inference.bundle import Spec
from service.inference import metrics, summary
from service.inference.decoding import Readable, Unreadable
from service.inference.errors import Problem, RequestError
from service.inference.files import OtherChannel, Upload, unpack
from service.inference.model_pool import Model, Models

Item = Readable | Unreadable | OtherChannel
Record = Callable[[Model, list[Readable], npt.NDArray[np.float32], uncertainty.Assessment], None]
"""Keeps what was said of cells; see service.inference.prediction_log."""

log = logging.getLogger("bentoml.fatescope")

CHUNK = 128
"""Cells of a large request that are sent to the runner together; requests of one cell wait for no more of it."""
ON_THEIR_WAY = 3
"""Chunks of a large request that may wait for the runner while the next is decoded."""
SMALL = 100_000
"""Bytes of a file that is decoded at once: a thread would cost more than it frees."""


async def classify_one(upload: Upload, model: Model, record: Record) -> tuple[Readable, dict[str, Any]]:
    """Return the cell in `upload` and a Judged; raises RequestError for one that cannot be judged."""
    try:
        small = len(upload.raw) < SMALL
        cell = model.reader.read_one(upload) if small else await run_in_threadpool(model.reader.read_one, upload)
    except ImageError as error:
        raise RequestError(400, error.code, str(error), upload.name) from error
    rows = await _ask(model, cell.pixels[None])
    return cell, _judge([cell], rows, model, record)[0]


async def explain_cell(cell: Readable, label: str, model: Model, models: Models) -> dict[str, str]:
    """Return an Activation for the class `label` of one cell."""
    try:
        maps = await models.explain(model, cell.pixels)
    except Exception as error:
        raise _unavailable(error) from error
    canvas = model.spec.canvas
    size = min(cell.size[0], canvas[0]), min(cell.size[1], canvas[1])
    drawn = cam.overlay(maps[model.spec.classes.index(label)], size, canvas, model.spec.params["train"])
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    return {"label": label, "png": base64.b64encode(buffer.getvalue()).decode()}


async def classify_many(
    files: list[tuple[str, IO[bytes]]], model: Model, record: Record, *, details: bool
) -> dict[str, Any]:
    """Return `sample` and `cells` of a BatchAnswer; raises RequestError for files that are too much."""
    chunks = _chunks(files, model, details=details)
    told: list[dict[str, Any]] = []
    waiting: list[tuple[list[Item], asyncio.Task[npt.NDArray[np.float32]] | None]] = []
    said: list[npt.NDArray[np.float32]] = []
    others = 0

    async def land() -> None:
        chunk, flight = waiting.pop(0)
        rows = await flight if flight else np.zeros((0, 1), np.float32)
        told.extend(_tell(chunk, rows, model, record))
        if len(rows):
            said.append(rows)

    try:
        while chunk := await run_in_threadpool(next, chunks, None):
            others += sum(isinstance(each, OtherChannel) for each in chunk)
            if len(waiting) >= ON_THEIR_WAY:
                await land()
            pixels = [each.pixels for each in chunk if isinstance(each, Readable)]
            waiting.append((chunk, asyncio.create_task(_ask(model, np.stack(pixels))) if pixels else None))
        while waiting:
            await land()
    finally:
        # The client has left, or a chunk has failed: nobody waits for the others any more.
        for _, flight in waiting:
            if flight:
                flight.cancel()
    rows = np.concatenate(said) if said else np.zeros((0, len(model.spec.classes) + 1), np.float32)
    sample = await run_in_threadpool(_sum_up, rows, told, others, model.spec)
    return {"sample": sample, "cells": told}


def _chunks(files: list[tuple[str, IO[bytes]]], model: Model, *, details: bool) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    for file in unpack(files, model.reader.is_other):
        for cell in [file] if isinstance(file, OtherChannel) else model.reader.read(file, details=details):
            chunk.append(cell)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


async def _ask(model: Model, pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    try:
        return await model.batcher.predict(pixels)
    # The client of BentoML raises what its parts raise.
    except Exception as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> RequestError:
    log.error("the runner failed", exc_info=error)
    message = "the part that runs the model does not answer; try again in a few seconds"
    return RequestError(503, "runner", message, headers={"Retry-After": "5"})


def _judge(cells: list[Readable], rows: npt.NDArray[np.float32], model: Model, record: Record) -> list[dict[str, Any]]:
    """Return a Judged for each of the cells, of which the runner said `rows`."""
    spec = model.spec
    judged = conclude(rows, spec)
    record(model, cells, rows, judged)
    labels, verdicts = judged.probabilities.argmax(1).tolist(), judged.verdicts.tolist()
    told = []
    for cell, each, chosen, label, verdict, distance in zip(
        cells,
        judged.probabilities.tolist(),
        judged.sets.tolist(),
        labels,
        verdicts,
        judged.distance.tolist(),
        strict=True,
    ):
        metrics.cell(spec.task, spec.classes[label], verdict, each[label])
        told.append(
            {
                "label": spec.classes[label],
                "probabilities": dict(zip(spec.classes, each, strict=True)),
                "conformal_set": [name for name, held in zip(spec.classes, chosen, strict=True) if held],
                "verdict": verdict,
                "distance": distance,
                "warnings": [warned.model_dump() for warned in cell.warnings],
            }
        )
    return told


def conclude(rows: npt.NDArray[np.float32], spec: Spec) -> uncertainty.Assessment:
    """Return what the (B, K + 1 + C) rows of a runner come to."""
    classes = len(spec.classes)
    return uncertainty.assess(uncertainty.softmax(rows[:, :classes]), rows[:, classes], spec.conformal)


def _tell(chunk: list[Item], rows: npt.NDArray[np.float32], model: Model, record: Record) -> list[dict[str, Any]]:
    """Return a Cell for each of the chunk; `rows` are those of its readable cells, in their order."""
    readable = [each for each in chunk if isinstance(each, Readable)]
    judged = iter(_judge(readable, rows, model, record) if readable else [])
    told = []
    for each in chunk:
        if isinstance(each, OtherChannel):
            continue
        named = {"file": each.file, "page": each.page, "object": each.object}
        if isinstance(each, Readable):
            told.append(named | next(judged) | each.details)
        else:
            metrics.REFUSED.labels(each.error.code).inc()
            error = Problem(code=each.error.code, message=str(each.error), file=each.file)
            told.append(named | {"error": error.model_dump()})
    return told


def _sum_up(rows: npt.NDArray[np.float32], told: list[dict[str, Any]], others: int, spec: Spec) -> dict[str, Any]:
    """Return the Sample of all cells of a request."""
    verdicts = Counter(cell["verdict"] for cell in told if "verdict" in cell)
    called = Counter(cell["label"] for cell in told if "label" in cell)
    return {
        "cells": len(rows),
        "refused": len(told) - len(rows),
        "other_channels": others,
        **{verdict: verdicts[verdict] for verdict in uncertainty.VERDICTS},
        "called": {name: called[name] for name in spec.classes},
        "composition": compose(rows, spec),
    }


def compose(rows: npt.NDArray[np.float32], spec: Spec) -> dict[str, dict[str, float]] | None:
    """Return class → Share of the cells that are like the training cells, of which the runner said `rows`."""
    judged = conclude(rows, spec)
    return summary.compose(judged.probabilities[judged.verdicts != uncertainty.UNLIKE], spec)
