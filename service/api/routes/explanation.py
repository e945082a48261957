"""Endpoints that say what the network responded to in a cell that it has classified before."""

from dataclasses import asdict
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service import tracing
from service.api.explanation_schemas import ExplainResponse, ExplainSlicesResponse
from service.api.forms import IMAGE_PART, SLICES_PART, openapi_body, read_many, read_one
from service.api.middleware import REQUEST_ID
from service.api.routes.parameters import Label, Name, Offsets, Size, Task, sliced_file
from service.api.state import state_of
from service.inference.explain import explain_object, explain_page

router = APIRouter(tags=["classification"])

MAX_PAGE = 1_000_000


@router.post(
    "/explain",
    openapi_extra=openapi_body(IMAGE_PART, many=False),
    responses={200: {"model": ExplainResponse}},
)
async def explain(
    request: Request,
    label: Label,
    task: Task = None,
    page: Annotated[
        int | None,
        Query(ge=0, le=MAX_PAGE, description="Page of a file with several, from 0, as /classify_batch says."),
    ] = None,
) -> Response:
    """Return the activation map of one cell: of an image, or of a page of one. Nothing is classified or recorded."""
    state = state_of(request.scope)
    model = state.models.get(task)
    uploads = await read_one(request, model.spec.inputs)
    drawn = await explain_page(uploads, page, label, model, state.models)
    response = {
        "model": model.identity,
        "task": model.spec.task,
        "request_id": request.scope[REQUEST_ID],
        "activation_map": drawn,
    }
    with tracing.span("respond"):
        return Response(orjson.dumps(response), media_type="application/json")


@router.post(
    "/explain_slices",
    openapi_extra=openapi_body(SLICES_PART, many=True),
    responses={200: {"model": ExplainSlicesResponse}},
)
async def explain_slices(
    request: Request,
    name: Name,
    size: Size,
    offset: Offsets,
    place: Annotated[str, Query(description="`place` of the cell, as /classify_slices says with `details=true`.")],
    label: Label,
    task: Task = None,
) -> Response:
    """Return the activation map of an object of a .cif or .rif, of which only slices are sent.

    Send the first 256 kB and as much from where `place` says that the object is. Where something is missing,
    `activation_map` is null and `next` says which slices to send instead; those but the last are the same for all
    objects of the file.
    """
    state = state_of(request.scope)
    model = state.models.get(task)
    async with read_many(request) as parts:
        file = sliced_file(parts, offset, name, size, place)
    drawn = await explain_object(file, label, model, state.models)
    response = {
        "model": model.identity,
        "task": model.spec.task,
        "request_id": request.scope[REQUEST_ID],
        "activation_map": drawn,
        "next": {"cursor": place, "slices": [asdict(span) for span in file.wanted]} if drawn is None else None,
    }
    with tracing.span("respond"):
        return Response(orjson.dumps(response), media_type="application/json")
