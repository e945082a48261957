"""The Bento that answers over HTTP: `bentoml serve service.gateway:Fatescope`.

The endpoints are FastAPI routes that BentoML mounts, not a `bentoml.api`: those fetch addresses that a client supplies,
turn some client errors into 500, and word a refusal in their own way. `/livez`, `/readyz`, `/metrics` and the access
log remain BentoML's. The networks are in `service.runner`, a process of its own.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import bentoml
import orjson
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from opentelemetry import trace

from pipelines.core.errors import FatescopeError
from service import champions, classifying, exports, keys, uploads
from service.admission import Admission
from service.answers import Answer, BatchAnswer, Refusal, RequestError, Served, refuse_in_json
from service.models import Calls, Model, Models
from service.runner import TIMEOUT_S, Runner

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

CARD = {"text/html": "card.html", "text/markdown": "card.md"}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal} for status in (400, 401, 404, 405, 406, 413, 422, 429, 500, 503)
}


@asynccontextmanager
async def _running(_: FastAPI) -> AsyncIterator[None]:
    """Have the models ready before the first request, and follow the champions until the last."""
    models: Models = bentoml.get_current_service().models
    await models.start()
    following = asyncio.create_task(models.follow())
    yield
    following.cancel()


def _guarded(request: Request) -> None:
    _GUARD.check(request)


app = FastAPI(title="Fatescope", docs_url=None, redoc_url=None, lifespan=_running, responses=REFUSALS)
refuse_in_json(app)
_GUARD = keys.Guard()

Task = Annotated[str | None, Query(description="A task that is served; /models lists them.")]
Explain = Annotated[bool, Query(description="Add the activation map.")]
Formats = Annotated[
    Literal["json", "csv", "parquet", "fcs"] | None, Query(description="How to answer, before what Accept says.")
]


@bentoml.asgi_app(app)
@bentoml.service(
    name="fatescope",
    workers=1,
    traffic={"timeout": TIMEOUT_S},
    http={"host": keys.host(), "port": 3000},
)
class Fatescope:
    """Classifies label-free images of single cells."""

    runner = bentoml.depends(Runner)

    def __init__(self) -> None:
        self.models = Models(cast("Calls", self.runner.to_async))
        self.admission = Admission()

    @bentoml.on_deployment  # type: ignore[untyped-decorator]  # it also makes it static
    def prepare() -> None:
        """Settle what is served before any worker starts: BentoML would go on without a worker that cannot."""
        try:
            keys.accepted()
            champions.settle()
            for champion in champions.listed(champions.folder()).values():
                champions.read_spec(champion)
        except FatescopeError as error:
            sys.exit(f"error: {error}")

    @app.post(
        "/classify",
        openapi_extra=uploads.openapi(uploads.PART, many=False),
        dependencies=[Depends(_guarded)],
        responses={200: {"model": Answer}},
    )
    async def classify(self, request: Request, task: Task = None, explain: Explain = False) -> Response:
        """Classify one image of one cell."""
        with self.admission.admit(request, uploads.MAX_BYTES):
            model = self.models.get(task)
            cell, judged = await classifying.classify(await uploads.read_one(request), model)
            answer = judged | _signed(model)
            if explain:
                answer["activation_map"] = await classifying.explain(cell, judged["label"], model, self.models)
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
    async def classify_batch(self, request: Request, task: Task = None, format: Formats = None) -> Response:  # noqa: A002
        """Classify many images: files of a form, or a zip or a TIFF of many pages, in a form or as the body."""
        chosen = exports.choose(format, request.headers.get("accept", ""))
        with self.admission.admit(request, uploads.MAX_BATCH_BYTES):
            model = self.models.get(task)
            async with uploads.read_many(request) as files:
                found = await classifying.classify_many(files, model)
            answer = _signed(model) | {"simulated": model.spec.simulated} | found
            body = await asyncio.to_thread(chosen.write, answer)
        name = f"fatescope-{model.spec.task}.{chosen.suffix}"
        headers = {} if chosen.suffix == "json" else {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(body, media_type=chosen.media_type, headers=headers)

    @app.get("/models", dependencies=[Depends(_guarded)])
    def list_models(self) -> list[Served]:
        """Say which models are served, that of the default task first."""
        return [_describe(model) for model in self.models]

    @app.get(
        "/card/{task}",
        dependencies=[Depends(_guarded)],
        response_class=Response,
        responses={200: {"description": "The card.", "content": {"text/html": {}, "text/markdown": {}}}},
    )
    def card(self, request: Request, task: str) -> Response:
        """Return the card of the model of a task, as a page, or as Markdown where Accept asks for it."""
        model = self.models.get(task)
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
    def docs(self) -> HTMLResponse:
        """Show the endpoints, with the pages that BentoML brings: no other host is asked."""
        return HTMLResponse(Path(__file__).with_name("docs.html").read_text())


def _signed(model: Model) -> dict[str, Any]:
    return {
        "model": model.label.model_dump(),
        "task": model.spec.task,
        "request_id": format(trace.get_current_span().get_span_context().span_id, "016x"),
    }


def _describe(model: Model) -> Served:
    spec = model.spec
    same = ("task", "classes", "backbone", "bit_depths", "channel", "height_px", "width_px", "canvas", "coverage")
    about = {name: getattr(spec, name) for name in (*same, "simulated", "data_hash", "git_commit")}
    return Served(model=model.label, engine=model.engine, **about)
