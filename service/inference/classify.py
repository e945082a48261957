"""Classify one cell: decode, run inference, and assess the output."""

import asyncio
import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from starlette.concurrency import run_in_threadpool

from fatescope.errors import ImageError
from fatescope.inference.bundle import Spec
from fatescope.inference.classification import from_assessment
from fatescope.inference.uncertainty import Assessment, CoarseCall
from service import tracing
from service.inference import metrics, quality
from service.inference.decoded_cell import DecodedCell
from service.inference.errors import RequestError
from service.inference.files import Upload
from service.inference.quality import Reasons
from service.inference.requester import count_cells
from service.inference.results import AnswerDict, CoarseDict, PredictionDict
from service.inference.runner_output import RunnerOutput
from service.inference.served_model import ServedModel

Record = Callable[..., None]
"""Writes answered cells to the prediction log: model, cells, output, assessment, and their numbers in the request."""

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

SMALL_FILE_BYTES = 100_000
"""Largest file that is decoded in the event loop: handing it to a thread would cost more than it saves."""


async def classify_one(
    uploads: list[Upload], model: ServedModel, record: Record, *, judge_quality: bool | None = None
) -> tuple[DecodedCell, PredictionDict]:
    """Return the cell in the `uploads`, one for each channel of the model, and its prediction.

    `judge_quality` asks whether it is outside the gates; by default only where the model leaves such cells out.

    Raises RequestError if it cannot be classified.
    """
    tracing.annotate(task=model.spec.task, version=model.champion.version, cells=1)
    cell = await decode_cell(uploads, model)
    return cell, await answer_cell(cell, model, record, judge_quality=judge_quality)


async def decode_cell(uploads: list[Upload], model: ServedModel) -> DecodedCell:
    """Return the cell in the `uploads`, one for each channel of the model; raises RequestError if it has none."""
    try:
        small = sum(len(upload.raw) for upload in uploads) < SMALL_FILE_BYTES
        with tracing.span("decode"):
            cell = model.decoder.decode_at_once(*uploads) if small else None
            if cell is None:
                cell = await run_in_threadpool(model.decoder.decode_one, *uploads)
    except ImageError as error:
        raise RequestError(400, error.code, str(error), uploads[0].name) from error
    return cell


async def answer_cell(
    cell: DecodedCell, model: ServedModel, record: Record, *, judge_quality: bool | None = None
) -> PredictionDict:
    """Return the prediction for a cell, as `classify_one` does; raises RequestError if the runner fails."""
    if quality.is_wanted(model.spec, requested=judge_quality):
        sent = asyncio.create_task(predict(model, cell.pixels[None]))
        await asyncio.sleep(0)
        # While the runner works.
        judged = quality.judge([cell], model.spec)
        output = await sent
    else:
        judged, output = [None], await predict(model, cell.pixels[None])
    assessment = output.assess(model.spec)
    record(model, *quality.monitored([cell], output, assessment, judged, model.spec))
    return predictions([cell], assessment, model.spec, judged)[0]


def answer(prediction: PredictionDict, model: ServedModel, request_id: str) -> AnswerDict:
    """Return the response to a request for one cell."""
    return {**prediction, "model": model.identity, "task": model.spec.task, "request_id": request_id}


async def predict(model: ServedModel, pixels: npt.NDArray[np.uint16]) -> RunnerOutput:
    """Return the output of the runner for n cells; raises RequestError if it fails."""
    try:
        return await model.predict(pixels)
    # BentoML's client passes on the exceptions of its parts.
    except Exception as error:
        raise runner_failed(error) from error


def runner_failed(error: Exception) -> RequestError:
    """Return the error of a request for which the runner did not answer, and log why."""
    log.error("the runner failed", exc_info=error)
    message = "the runner does not answer; try again in a few seconds"
    return RequestError(503, "runner", message, headers={"Retry-After": "5"})


def coarse_dict(call: CoarseCall | None) -> CoarseDict | None:
    """Return a coarse call in the shape of a response."""
    return None if call is None else {"label": call.label, "probability": call.probability}


def predictions(
    cells: list[DecodedCell], assessment: Assessment, spec: Spec, judged: list[Reasons]
) -> list[PredictionDict]:
    """Return the predictions for `cells` from their assessment and `quality.judge`, and count them."""
    count_cells(len(cells))
    results: list[PredictionDict] = []
    for cell, answer, reasons in zip(cells, from_assessment(assessment, spec), judged, strict=True):
        metrics.count_cell(spec.task, answer.label, answer.verdict, answer.probabilities[answer.label])
        results.append(
            {
                "label": answer.label,
                "probabilities": answer.probabilities,
                "conformal_set": answer.conformal_set,
                "coarse": coarse_dict(answer.coarse),
                "verdict": answer.verdict,
                "distance": answer.distance,
                "quality": reasons,
                "warnings": cell.warnings,
            }
        )
    return results
