"""The activation map of one cell: of an image, a page of a file, or an object of a native file of which slices came."""

import base64
import io

from starlette.concurrency import run_in_threadpool

from fatescope.errors import ImageError
from fatescope.inference import cam
from service import tracing
from service.inference.classify import runner_failed
from service.inference.decoded_cell import DecodedCell, FailedCell
from service.inference.errors import RequestError
from service.inference.files import Upload
from service.inference.model_pool import ModelPool
from service.inference.requester import count_cells
from service.inference.results import ActivationDict
from service.inference.served_model import ServedModel
from service.inference.slices import SlicedFile


async def explain_cell(cell: DecodedCell, label: str, model: ServedModel, models: ModelPool) -> ActivationDict:
    """Return the activation map of one cell for the class `label`."""
    try:
        maps = await models.explain(model, cell.pixels)
    except Exception as error:
        raise runner_failed(error) from error
    canvas = model.spec.canvas
    size = min(cell.size[0], canvas[0]), min(cell.size[1], canvas[1])
    activation = maps[model.spec.classes.index(label)]
    picture = cam.overlay(activation, size, canvas, model.spec.params["train"])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    scale, total = cam.contributions(activation)
    rows, columns = activation.shape
    return {
        "label": label,
        "png": base64.b64encode(buffer.getvalue()).decode(),
        "scale": scale,
        "total": total,
        "rows": rows,
        "columns": columns,
    }


async def explain_page(
    uploads: list[Upload], page: int | None, label: str, model: ServedModel, models: ModelPool
) -> ActivationDict:
    """Return the map of the cell in the `uploads`, one for each channel: on the `page` from 0, or the only one.

    Nothing is recorded: the cell has been classified before. Raises RequestError where there is no such cell.
    """
    check_label(label, model)
    tracing.annotate(task=model.spec.task, version=model.champion.version, cells=1)
    try:
        with tracing.span("decode"):
            cell = await run_in_threadpool(model.decoder.decode_one, *uploads, page=page)
    except ImageError as error:
        raise RequestError(400, error.code, str(error), uploads[0].name) from error
    count_cells(1)
    return await explain_cell(cell, label, model, models)


async def explain_object(file: SlicedFile, label: str, model: ServedModel, models: ModelPool) -> ActivationDict | None:
    """Return the map of the object at the cursor of `file`; None where `file.wanted` says what is missing for it.

    Raises RequestError where it cannot be read.
    """
    check_label(label, model)
    tracing.annotate(task=model.spec.task, version=model.champion.version, cells=1)
    with tracing.span("decode"):
        cell = await run_in_threadpool(_first, file, model)
    if cell is None and file.wanted:
        return None
    if cell is None:
        raise RequestError(422, "parameters", "no object is at this place; send the `place` of a cell of this file")
    if isinstance(cell, FailedCell):
        raise RequestError(400, cell.error.code, str(cell.error), cell.file)
    count_cells(1)
    return await explain_cell(cell, label, model, models)


def _first(file: SlicedFile, model: ServedModel) -> DecodedCell | FailedCell | None:
    return next(iter(list(file.decode(model.decoder, details=False, max_cells=1))), None)


def check_label(label: str, model: ServedModel) -> None:
    """Raise RequestError where `label` is not one of the classes."""
    if label not in model.spec.classes:
        known = ", ".join(model.spec.classes)
        raise RequestError(422, "parameters", f"'{label[:100]}' is not a class of this model; it has {known}")
