"""Endpoints that classify images."""

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service import tracing
from service.api import formats
from service.api.batch_schemas import ClassifyBatchResponse
from service.api.forms import FILES_PART, IMAGE_PART, SLICES_PART, openapi_body, read_many, read_one
from service.api.middleware import REQUEST_ID
from service.api.routes.parameters import FormatName, Name, Offsets, Size, Task, download, sliced_file
from service.api.schemas import ClassifyResponse
from service.api.slice_schemas import ClassifySlicesResponse
from service.api.state import state_of
from service.inference.classify import Record, answer, classify_one
from service.inference.classify_batch import classify_many, classify_sliced
from service.inference.explain import explain_cell
from service.inference.quality import excludes
from service.inference.results import BatchDict

router = APIRouter(tags=["classification"])

Explain = Annotated[bool, Query(description="Add the activation map.")]
Details = Annotated[bool, Query(description="Add a thumbnail and the image features of each cell.")]


JudgeQuality = Annotated[
    bool | None,
    Query(
        description="Say why a cell is outside the gates of quality, which takes up to a millisecond a cell. By "
        "default where cells outside are left out, and with `details`."
    ),
]
ExcludeOutside = Annotated[
    bool | None,
    Query(
        description="Whether compositions leave out cells outside the gates of quality; as in training by default "
        "(`excludes_outside` in /models)."
    ),
]


@router.post(
    "/classify",
    openapi_extra=openapi_body(IMAGE_PART, many=False),
    responses={200: {"model": ClassifyResponse}},
)
async def classify(
    request: Request, task: Task = None, explain: Explain = False, quality: JudgeQuality = None
) -> Response:
    """Classify one image of one cell, or one of each channel where the model takes several (`channels` in /models)."""
    state = state_of(request.scope)
    models = state.models
    model = models.get(task)
    uploads = await read_one(request, model.spec.inputs)
    # The map is one of the champion's network.
    if state.canary and not explain:
        model, cell, prediction = await state.canary.classify_one(
            uploads, model, _record(request), request.scope, request.scope[REQUEST_ID], judge_quality=quality
        )
    else:
        cell, prediction = await classify_one(uploads, model, _record(request), judge_quality=quality)
    with tracing.span("respond"):
        response: dict[str, object] = {**answer(prediction, model, request.scope[REQUEST_ID])}
        if explain:
            response["activation_map"] = await explain_cell(cell, prediction["label"], model, models)
        return Response(orjson.dumps(response), media_type="application/json")


@router.post(
    "/classify_batch",
    openapi_extra=openapi_body(FILES_PART, many=True),
    responses={
        200: {
            "model": ClassifyBatchResponse,
            "content": {
                **{form.media_type: {} for form in formats.FORMATS.values() if form.suffix != "json"},
                formats.ZIP: {},
            },
        }
    },
)
async def classify_batch(
    request: Request,
    task: Task = None,
    format: FormatName = None,  # noqa: A002  the name in the query
    details: Details = False,
    exclude_outside: ExcludeOutside = None,
    quality: JudgeQuality = None,
) -> Response:
    """Classify many images: files, or a zip, a TIFF of many pages, a .cif or .rif, in a form or as the body.

    Where the model takes several channels, the files of one object, whose names differ in the channel alone, are one
    cell; one that lacks a channel is answered with the code `missing_channel`. Of a model that was trained on cells
    with several images over time, `tracks` has the answer for each cell by all of its images together.
    """
    chosen = formats.choose(format, request.headers.get("accept", ""))
    state = state_of(request.scope)
    model = state.models.get(task)
    excluded = excludes(model.spec, requested=exclude_outside)
    async with read_many(request) as files:
        sample, samples, tracks, cells = await classify_many(
            files,
            model,
            _record(request),
            request_id=request.scope[REQUEST_ID],
            details=details,
            max_cells=state.max_cells,
            exclude_outside=excluded,
            judge_quality=quality,
        )
    results: BatchDict = {
        "model": model.identity,
        "task": model.spec.task,
        "request_id": request.scope[REQUEST_ID],
        "simulated": model.spec.simulated,
        "hierarchy": model.spec.hierarchy,
        "outside_excluded": excluded,
        "sample": sample,
        "samples": samples,
        "tracks": tracks,
        "cells": cells,
    }
    with tracing.span("respond"):
        return download(await asyncio.to_thread(chosen.write, results), model.spec.task)


@router.post(
    "/classify_slices",
    openapi_extra=openapi_body(SLICES_PART, many=True),
    responses={200: {"model": ClassifySlicesResponse}},
)
async def classify_slices(
    request: Request,
    name: Name,
    size: Size,
    offset: Offsets,
    cursor: Annotated[str | None, Query(description="`next.cursor` of the answer before, none for the first.")] = None,
    task: Task = None,
    details: Details = False,
) -> Response:
    """Classify a .cif or .rif of any size in several requests, which each hold slices of it.

    Send the first 8 MB. Each answer has the cells that follow, at most 1,000, and in `next` which slices of the file
    to send for those behind them; null at the end of the file. The service keeps nothing between two requests. Put the
    cells together with /summarise.
    """
    model = state_of(request.scope).models.get(task)
    async with read_many(request) as parts:
        file = sliced_file(parts, offset, name, size, cursor)
    cells = await classify_sliced(file, model, _record(request), request_id=request.scope[REQUEST_ID], details=details)
    response = {
        "model": model.identity,
        "task": model.spec.task,
        "request_id": request.scope[REQUEST_ID],
        "simulated": model.spec.simulated,
        "objects": file.objects,
        "cells": cells,
        "next": {"cursor": file.cursor and str(file.cursor), "slices": [asdict(span) for span in file.wanted]}
        if file.wanted
        else None,
    }
    with tracing.span("respond"):
        return Response(orjson.dumps(response), media_type="application/json")


def _record(request: Request) -> Record:
    return partial(state_of(request.scope).prediction_log.add, request.scope[REQUEST_ID])
