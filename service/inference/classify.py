"""Classify one cell: decode, run inference, and assess the output."""

import base64
import io
import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from starlette.concurrency import run_in_threadpool

from fatescope.errors import ImageError
from fatescope.inference import cam
from fatescope.inference.bundle import Spec
from fatescope.inference.classification import from_assessment
from fatescope.inference.uncertainty import Assessment
from service.inference import metrics
from service.inference.decoding import DecodedCell
from service.inference.errors import RequestError
from service.inference.files import Upload
from service.inference.model_pool import ModelPool, ServedModel
from service.inference.results import ActivationDict, PredictionDict
from service.inference.runner_output import RunnerOutput

Record = Callable[[ServedModel, list[DecodedCell], RunnerOutput, Assessment], None]
"""Writes answered cells to the prediction log."""

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

SMALL_FILE_BYTES = 100_000
"""Largest file that is decoded in the event loop: handing it to a thread would cost more than it saves."""


async def classify_one(upload: Upload, model: ServedModel, record: Record) -> tuple[DecodedCell, PredictionDict]:
    """Return the cell in `upload` and its prediction; raises RequestError if it cannot be classified."""
    try:
        if len(upload.raw) < SMALL_FILE_BYTES:
            cell = model.decoder.decode_one(upload)
        else:
            cell = await run_in_threadpool(model.decoder.decode_one, upload)
    except ImageError as error:
        raise RequestError(400, error.code, str(error), upload.name) from error
    output = await predict(model, cell.pixels[None])
    assessment = output.assess(model.spec)
    record(model, [cell], output, assessment)
    return cell, predictions([cell], assessment, model.spec)[0]


async def explain_cell(cell: DecodedCell, label: str, model: ServedModel, models: ModelPool) -> ActivationDict:
    """Return the activation map of one cell for the class `label`."""
    try:
        maps = await models.explain(model, cell.pixels)
    except Exception as error:
        raise _runner_failed(error) from error
    canvas = model.spec.canvas
    size = min(cell.size[0], canvas[0]), min(cell.size[1], canvas[1])
    picture = cam.overlay(maps[model.spec.classes.index(label)], size, canvas, model.spec.params["train"])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return {"label": label, "png": base64.b64encode(buffer.getvalue()).decode()}


async def predict(model: ServedModel, pixels: npt.NDArray[np.uint16]) -> RunnerOutput:
    """Return the output of the runner for (n, H, W) pixels; raises RequestError if it fails."""
    try:
        return await model.predict(pixels)
    # BentoML's client passes on the exceptions of its parts.
    except Exception as error:
        raise _runner_failed(error) from error


def _runner_failed(error: Exception) -> RequestError:
    log.error("the runner failed", exc_info=error)
    message = "the runner does not answer; try again in a few seconds"
    return RequestError(503, "runner", message, headers={"Retry-After": "5"})


def predictions(cells: list[DecodedCell], assessment: Assessment, spec: Spec) -> list[PredictionDict]:
    """Return the predictions for `cells` from their assessment, and count them."""
    results: list[PredictionDict] = []
    for cell, answer in zip(cells, from_assessment(assessment, spec.classes), strict=True):
        metrics.count_cell(spec.task, answer.label, answer.verdict, answer.probabilities[answer.label])
        results.append(
            {
                "label": answer.label,
                "probabilities": answer.probabilities,
                "conformal_set": answer.conformal_set,
                "verdict": answer.verdict,
                "distance": answer.distance,
                "warnings": cell.warnings,
            }
        )
    return results
