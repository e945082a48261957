"""Teach a head from a few labels: the service keeps neither images, nor labels, nor what was taught."""

import asyncio
import base64
import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from fatescope.data.native.analysis import read_analysis
from fatescope.errors import DataError
from service.api.forms import FILES_PART, openapi_body, read_many
from service.api.lessons import answer_lesson, pack_bundle
from service.api.routes.parameters import Task
from service.api.state import state_of
from service.api.teaching_schemas import (
    MAX_CELLS,
    BundleRequest,
    DescribeResponse,
    LessonRequest,
    LessonResponse,
    PopulationSpans,
    PopulationsResponse,
)
from service.inference.errors import RequestError
from service.inference.teaching import Described, describe

router = APIRouter(tags=["teaching"])

_BINARY = {"type": "string", "format": "binary"}
_MAX_NAME, _MAX_SPANS = 200, 500_000
"""Longest name of a population, and most spans of all: in JSON each takes 100 times its room in the file."""
_WAIT_S, _LOOK_S = 30.0, 0.05
"""How long a lesson waits for its turn, and how often it looks."""
_turn = threading.Lock()
"""One lesson at a time: each takes a core for seconds, and others want an answer."""
_teacher = ThreadPoolExecutor(1, "fatescope-lesson")
"""Not one of the threads that decode images: lessons that wait would take them all."""
_T = TypeVar("_T")


@router.post(
    "/teach/cells", openapi_extra=openapi_body(FILES_PART, many=True), responses={200: {"model": DescribeResponse}}
)
async def cells(request: Request, task: Task = None) -> Response:
    """Describe cells for a lesson, at most 5,000: files as /classify_batch takes them.

    Each cell gets a vector: what the network of the champion sees of it, simple features of the cell, and how it was
    acquired. Send these with labels to /teach/head. Nothing is kept.
    """
    state = state_of(request.scope)
    model = state.models.get(task)
    async with read_many(request) as files:
        described, failed = await describe(files, model, min(MAX_CELLS, state.max_cells))
    content = {
        "model": model.identity,
        "task": model.spec.task,
        "cells": [_described(one) for one in described],
        "errors": [{"code": one.error.code, "message": str(one.error), "file": one.file} for one in failed],
    }
    return Response(orjson.dumps(content), media_type="application/json")


@router.post("/teach/head")
async def head(request: Request, lesson: LessonRequest, task: Task = None) -> LessonResponse:
    """Teach a head the labels, and say how right it is by cross-validation, and which cells to label next."""
    model = state_of(request.scope).models.get(task)
    return await _in_turn(lambda: answer_lesson(lesson, model))


@router.post("/teach/bundle", response_class=Response, responses={200: {"content": {"application/zip": {}}}})
async def bundle(request: Request, lesson: BundleRequest, task: Task = None) -> Response:
    """Return a bundle with a head that was taught the labels, unsigned, as a zip.

    Register it with `fatescope models add`: it is served once somebody who may has signed it, and by the gate.
    """
    model = state_of(request.scope).models.get(task)
    content = await _in_turn(lambda: pack_bundle(lesson, model))
    headers = {"Content-Disposition": f'attachment; filename="fatescope-{lesson.name}.zip"'}
    return Response(content, media_type="application/zip", headers=headers)


@router.post(
    "/teach/populations",
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _BINARY}}}},
)
async def populations(request: Request) -> PopulationsResponse:
    """Return the populations that a person made by hand in an analysis file (.daf), which is the body.

    They are labels of the objects of its .cif. Populations that follow from features are not among them.
    """
    content = await request.body()
    try:
        analysis = await asyncio.to_thread(read_analysis, io.BytesIO(content), "the analysis")
    except DataError as error:
        raise RequestError(400, "analysis", str(error)) from error
    spans = sum(len(population.spans) for population in analysis.populations)
    if spans > _MAX_SPANS:
        raise RequestError(
            400, "analysis", f"the populations made by hand are of {spans:,} pieces, and at most {_MAX_SPANS:,} are "
            "read; save an analysis with those alone that you want to teach",
        )  # fmt: skip
    return PopulationsResponse(
        cif=analysis.cif,
        populations=[
            PopulationSpans(name=population.name[:_MAX_NAME], spans=[(int(a), int(b)) for a, b in population.spans])
            for population in analysis.populations
            if len(population)
        ],
    )


async def _in_turn(work: Callable[[], _T]) -> _T:
    """Return what `work` returns, once no other lesson is at work; raises RequestError after _WAIT_S."""
    end = time.monotonic() + _WAIT_S
    while not _turn.acquire(blocking=False):
        if time.monotonic() >= end:
            raise RequestError(
                503,
                "busy",
                "others are being taught at the moment; try again in a few seconds",
                headers={"Retry-After": "5"},
            )
        await asyncio.sleep(_LOOK_S)
    running = _teacher.submit(work)
    # Also where the client has gone: the turn is over when the thread is free.
    running.add_done_callback(lambda _: _turn.release())
    return await asyncio.wrap_future(running)


def _described(one: Described) -> dict[str, object]:
    return {
        "file": one.file,
        "page": one.page,
        "object": one.object,
        "upload": one.upload,
        "sample": one.sample,
        "image_hash": one.image_hash,
        "height": one.size[0],
        "width": one.size[1],
        "bit_depth": one.bit_depth,
        "vector": base64.b64encode(np.asarray(one.vector, "<f4").tobytes()).decode(),
    }
