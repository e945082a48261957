"""The endpoints, as a FastAPI application that knows nothing of what runs it.

Whoever mounts it puts into `app.state` what it answers with: `models`, `admission` and `guard`.
"""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from service import classifying, exports, metrics, uploads
from service.answers import Answer, BatchAnswer, Refusal, RequestError, Served, refuse_in_json
from service.models import Model
from service.watching import REQUEST_ID, Watched

CARD = {"text/html": "card.html", "text/markdown": "card.md"}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal} for status in (400, 401, 404, 405, 406, 413, 422, 429, 500, 503)
}

app = FastAPI(title="Fatescope", docs_url=None, redoc_url=None, responses=REFUSALS)
app.add_middleware(Watched)
refuse_in_json(app)


async def _guarded(request: Request) -> None:  # not a plain function: FastAPI would take a thread for it
    request.app.state.guard.check(request)


Task = Annotated[str | None, Query(description="A task that is served; /models lists them.")]
Explain = Annotated[bool, Query(description="Add the activation map.")]
Formats = Annotated[
    Literal["json", "csv", "parquet", "fcs"] | None, Query(description="How to answer, before what Accept says.")
]


@app.post(
    "/classify",
    openapi_extra=uploads.openapi(uploads.PART, many=False),
    dependencies=[Depends(_guarded)],
    responses={200: {"model": Answer}},
)
async def classify(request: Request, task: Task = None, explain: Explain = False) -> Response:
    """Classify one image of one cell."""
    with request.app.state.admission.admit(request, uploads.MAX_BYTES):
        model = request.app.state.models.get(task)
        cell, judged = await classifying.classify(await uploads.read_one(request), model)
        answer = judged | _signed(request, model)
        if explain:
            answer["activation_map"] = await classifying.explain(cell, judged["label"], model, request.app.state.models)
    return Response(orjson.dumps(answer), media_type="application/json")


@app.post(
    "/classify_batch",
    openapi_extra=uploads.openapi(uploads.PARTS, many=True),
    dependencies=[Depends(_guarded)],
    responses={
        200: {
            "model": BatchAnswer,
            "content": {form.media_type: {} for form in exports.FORMATS.values() if form.suffix != "json"},
        }
    },
)
async def classify_batch(request: Request, task: Task = None, format: Formats = None) -> Response:  # noqa: A002
    """Classify many images: files of a form, or a zip or a TIFF of many pages, in a form or as the body."""
    chosen = exports.choose(format, request.headers.get("accept", ""))
    with request.app.state.admission.admit(request, uploads.MAX_BATCH_BYTES):
        model = request.app.state.models.get(task)
        async with uploads.read_many(request) as files:
            found = await classifying.classify_many(files, model)
        answer = _signed(request, model) | {"simulated": model.spec.simulated} | found
        body = await asyncio.to_thread(chosen.write, answer)
    name = f"fatescope-{model.spec.task}.{chosen.suffix}"
    headers = {} if chosen.suffix == "json" else {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type=chosen.media_type, headers=headers)


@app.get("/models", dependencies=[Depends(_guarded)])
def list_models(request: Request) -> list[Served]:
    """Say which models are served, that of the default task first."""
    return [_describe(model) for model in request.app.state.models]


@app.get(
    "/card/{task}",
    dependencies=[Depends(_guarded)],
    response_class=Response,
    responses={200: {"description": "The card.", "content": {"text/html": {}, "text/markdown": {}}}},
)
def card(request: Request, task: str) -> Response:
    """Return the card of the model of a task, as a page, or as Markdown where Accept asks for it."""
    model = request.app.state.models.get(task)
    markdown = "text/markdown" in request.headers.get("accept", "")
    path = model.champion.path / CARD["text/markdown" if markdown else "text/html"]
    if not path.is_file():
        raise RequestError(
            404, "no_card", f"{model.champion.name} version {model.champion.version} is a bundle without a card; "
            "those in the registry have one",
        )  # fmt: skip
    text = path.read_text()
    return PlainTextResponse(text, media_type="text/markdown") if markdown else HTMLResponse(text)


@app.get("/docs", include_in_schema=False)
def docs() -> HTMLResponse:
    """Show the endpoints, with the pages that BentoML brings: no other host is asked."""
    return HTMLResponse(Path(__file__).with_name("docs.html").read_text())


@app.get("/metrics", include_in_schema=False)
def tell_metrics() -> Response:
    """Tell Prometheus what all processes of the service have counted."""
    return Response(metrics.collect(), media_type=metrics.CONTENT_TYPE_LATEST)


def _signed(request: Request, model: Model) -> dict[str, Any]:
    return {
        "model": model.label.model_dump(),
        "task": model.spec.task,
        "request_id": request.scope[REQUEST_ID],
    }


def _describe(model: Model) -> Served:
    spec = model.spec
    same = ("task", "classes", "backbone", "bit_depths", "channel", "height_px", "width_px", "canvas", "coverage")
    about = {name: getattr(spec, name) for name in (*same, "simulated", "data_hash", "git_commit")}
    return Served(model=model.label, engine=model.engine, **about)
