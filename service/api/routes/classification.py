"""Endpoints that classify images."""

import asyncio
from functools import partial
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import formats
from service.api.forms import FILES_PART, IMAGE_PART, openapi_body, read_many, read_one
from service.api.middleware import REQUEST_ID
from service.api.routes.parameters import FormatName, Task, download
from service.api.schemas import ClassifyBatchResponse, ClassifyResponse
from service.api.state import state_of
from service.inference.classify import Record, classify_one, explain_cell
from service.inference.classify_batch import classify_many
from service.inference.model_pool import ServedModel
from service.inference.results import BatchDict, ModelDict

router = APIRouter(tags=["classification"])

Explain = Annotated[bool, Query(description="Add the activation map.")]
Details = Annotated[bool, Query(description="Add a thumbnail and the image features of each cell.")]


@router.post(
    "/classify",
    openapi_extra=openapi_body(IMAGE_PART, many=False),
    responses={200: {"model": ClassifyResponse}},
)
async def classify(request: Request, task: Task = None, explain: Explain = False) -> Response:
    """Classify one image of one cell."""
    models = state_of(request.scope).models
    model = models.get(task)
    cell, prediction = await classify_one(await read_one(request), model, _record(request))
    response = {
        **prediction,
        "model": _version(model),
        "task": model.spec.task,
        "request_id": request.scope[REQUEST_ID],
    }
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
) -> Response:
    """Classify many images: files, or a zip, a TIFF of many pages, a .cif or .rif, in a form or as the body."""
    chosen = formats.choose(format, request.headers.get("accept", ""))
    state = state_of(request.scope)
    model = state.models.get(task)
    async with read_many(request) as files:
        sample, samples, cells = await classify_many(
            files, model, _record(request), details=details, max_cells=state.max_cells
        )
    results: BatchDict = {
        "model": _version(model),
        "task": model.spec.task,
        "request_id": request.scope[REQUEST_ID],
        "simulated": model.spec.simulated,
        "sample": sample,
        "samples": samples,
        "cells": cells,
    }
    return download(await asyncio.to_thread(chosen.write, results), model.spec.task)


def _record(request: Request) -> Record:
    return partial(state_of(request.scope).prediction_log.add, request.scope[REQUEST_ID])


def _version(model: ServedModel) -> ModelDict:
    return {"name": model.champion.name, "version": model.champion.version}
