"""The endpoints, as a FastAPI application that knows nothing of what runs it.

Whoever mounts it puts into `app.state` what it answers with: `models`, `admission`, `guard` and `recorder`.
"""

import asyncio
import io
import zipfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import FastAPI, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from safetensors.numpy import load_file

from fatescope.data import images
from fatescope.errors import ImageError
from fatescope.inference import bundle, uncertainty
from service.api import feedback, formats, schemas
from service.api.errors import refuse_in_json
from service.api.feedback import Correction
from service.api.forms import PART, PARTS, openapi, read_many, read_one
from service.api.middleware import REQUEST_ID, AccessLogMiddleware, AdmissionMiddleware
from service.api.schemas import (
    Answer,
    BatchAnswer,
    Corrected,
    Examples,
    Part,
    Refusal,
    Served,
    Summary,
)
from service.inference import metrics, summary, thumbnails
from service.inference.classify import Record, classify_many, classify_one, explain_cell
from service.inference.errors import RequestError
from service.inference.files import Upload
from service.inference.model_pool import Model

PAGE = Path(__file__).parent.parent / "page"
POLICY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""The page loads nothing from elsewhere, and runs nothing that is not its own."""
CARD = {"text/html": "card.html", "text/markdown": "card.md"}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal} for status in (400, 401, 404, 405, 406, 413, 422, 429, 500, 503)
}

app = FastAPI(title="Fatescope", docs_url=None, redoc_url=None, responses=REFUSALS)
app.add_middleware(AdmissionMiddleware)
app.add_middleware(AccessLogMiddleware)  # outermost: refused requests count too
refuse_in_json(app)
app.mount("/page", StaticFiles(directory=PAGE), name="page")


Task = Annotated[str | None, Query(description="A task that is served; /models lists them.")]
Explain = Annotated[bool, Query(description="Add the activation map.")]
Details = Annotated[bool, Query(description="Add a thumbnail and the figures of each image.")]
Formats = Annotated[
    Literal["json", "csv", "parquet", "fcs"] | None, Query(description="How to answer, before what Accept says.")
]


@app.post(
    "/classify",
    openapi_extra=openapi(PART, many=False),
    responses={200: {"model": Answer}},
)
async def classify(request: Request, task: Task = None, explain: Explain = False) -> Response:
    """Classify one image of one cell."""
    model = request.app.state.models.get(task)
    cell, judged = await classify_one(await read_one(request), model, _recording(request))
    answer = judged | _signed(request, model)
    if explain:
        answer["activation_map"] = await explain_cell(cell, judged["label"], model, request.app.state.models)
    return Response(orjson.dumps(answer), media_type="application/json")


@app.post(
    "/classify_batch",
    openapi_extra=openapi(PARTS, many=True),
    responses={
        200: {
            "model": BatchAnswer,
            "content": {form.media_type: {} for form in formats.FORMATS.values() if form.suffix != "json"},
        }
    },
)
async def classify_batch(
    request: Request,
    task: Task = None,
    format: Formats = None,  # noqa: A002  the name in the query
    details: Details = False,
) -> Response:
    """Classify many images: files of a form, or a zip or a TIFF of many pages, in a form or as the body."""
    chosen = formats.choose(format, request.headers.get("accept", ""))
    model = request.app.state.models.get(task)
    async with read_many(request) as files:
        found = await classify_many(files, model, _recording(request), details=details)
    answer = _signed(request, model) | {"simulated": model.spec.simulated} | found
    body = await asyncio.to_thread(chosen.write, answer)
    return _download(chosen, model.spec.task, body)


@app.get("/models")
def list_models(request: Request) -> list[Served]:
    """Say which models are served, that of the default task first."""
    return [_describe(model) for model in request.app.state.models]


@app.get(
    "/card/{task}",
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


@app.post("/summarise")
def summarise(request: Request, part: Part, task: Task = None) -> Summary:
    """Say what cells of several requests come to together, and whether their images are strange to the model."""
    model = request.app.state.models.get(task)
    sizes = {len(model.spec.classes)}, {len(summary.FIGURES)}
    if (
        part.cells
        and ({len(each.probabilities) for each in part.cells}, {len(each.figures) for each in part.cells}) != sizes
    ):
        raise RequestError(
            422, "parameters", f"a cell needs {sizes[0]} probabilities and {sizes[1]} figures; see /models"
        )
    like = [each.probabilities for each in part.cells if each.verdict != uncertainty.UNLIKE]
    figures = np.array([each.figures for each in part.cells]).reshape(-1, len(summary.FIGURES))
    return Summary.model_validate(
        {
            "composition": summary.compose(np.array(like), model.spec),
            "differences": summary.differences(figures, model.champion.path),
        }
    )


@app.post("/export", response_class=Response)
def export(answer: BatchAnswer, format: Formats = "csv") -> Response:  # noqa: A002  the name in the query
    """Write answers that were put together from several requests in another format."""
    content = answer.model_dump()
    for cell in content["cells"]:
        del cell["thumbnail"], cell["figures"]
    chosen = formats.FORMATS[format or "csv"]
    try:
        body = chosen.write(content)
    except (ValueError, OverflowError) as error:
        raise RequestError(422, "parameters", f"this cannot be written as {chosen.suffix}: {error}") from error
    return _download(chosen, answer.task, body)


@app.get("/examples/{task}")
def examples(request: Request, task: str) -> Examples:
    """Show cells of the kind that the model knows."""
    return Examples(pictures=[thumbnails.thumbnail(each) for each in _examples(request.app.state.models.get(task))])


@app.get("/reference/{task}", response_class=Response)
def reference(request: Request, task: str) -> Response:
    """Return the cells that drift of the model of a task is told by: a Parquet table of figures, without pixels."""
    path = request.app.state.models.get(task).champion.path / bundle.REFERENCE
    return Response(path.read_bytes(), media_type=formats.FORMATS["parquet"].media_type)


@app.get("/sample/{task}", response_class=Response)
def sample(request: Request, task: str) -> Response:
    """Return a zip of example cells, to try the service with."""
    model = request.app.state.models.get(task)
    buffer, depth = io.BytesIO(), model.spec.bit_depths[-1]
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, each in enumerate(_examples(model)):
            archive.writestr(f"example/cell_{number + 1}.tif", thumbnails.tiff(each, depth))
    return Response(buffer.getvalue(), media_type="application/zip")


@app.post("/feedback")
def correct(
    request: Request,
    image: Annotated[UploadFile, File(description="The image that was classified.")],
    label: Annotated[str, Form(description="What the cell really is.")],
    called: Annotated[str, Form(description="What the model called it.")] = "",
    keep_image: Annotated[bool, Form(description="Whether the image may be kept.")] = False,
    task: Task = None,
) -> Corrected:
    """Keep a correction for the next version of the data; the image itself only where that is wished."""
    model, raw = request.app.state.models.get(task), image.file.read()
    name = image.filename or "cell"
    try:
        # What is no cell now would be none when it is adopted.
        model.reader.read_one(Upload(raw, name))
    except ImageError as error:
        raise RequestError(400, error.code, str(error), name) from error
    return Corrected.model_validate(feedback.store(Correction(name, raw, label, called, keep_image), model))


@app.get("/", include_in_schema=False)
def page() -> FileResponse:
    """Show the page for biologists."""
    return FileResponse(PAGE / "index.html", headers=POLICY)


@app.get("/docs", include_in_schema=False)
def docs() -> HTMLResponse:
    """Show the endpoints, with the pages that BentoML brings: no other host is asked."""
    return HTMLResponse(Path(__file__).with_name("docs.html").read_text())


@app.get("/metrics", include_in_schema=False)
def tell_metrics() -> Response:
    """Tell Prometheus what all processes of the service have counted."""
    return Response(metrics.collect(), media_type=metrics.CONTENT_TYPE_LATEST)


def _download(chosen: formats.Format, task: str, body: bytes) -> Response:
    name = f"fatescope-{task}.{chosen.suffix}"
    headers = {} if chosen.suffix == "json" else {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type=chosen.media_type, headers=headers)


def _recording(request: Request) -> Record:
    return partial(request.app.state.recorder.add, request.scope[REQUEST_ID])


def _examples(model: Model) -> list[npt.NDArray[np.uint16]]:
    """Return the example cells of a bundle, cut to the sizes that it knows."""
    size = model.spec.height_px[1], model.spec.width_px[1]
    return [images.cut(each, size) for each in load_file(model.champion.path / bundle.TEST)["pixels"]]


def _signed(request: Request, model: Model) -> dict[str, Any]:
    return {
        "model": {"name": model.champion.name, "version": model.champion.version},
        "task": model.spec.task,
        "request_id": request.scope[REQUEST_ID],
    }


def _describe(model: Model) -> Served:
    spec = model.spec
    same = ("task", "classes", "backbone", "bit_depths", "channel", "height_px", "width_px", "canvas", "coverage")
    about = {name: getattr(spec, name) for name in (*same, "simulated", "data_hash", "git_commit", "made")}
    pattern = spec.params.get("dataset", {}).get("pattern")
    named = schemas.Model(name=model.champion.name, version=model.champion.version)
    return Served(model=named, engine=model.engine, pattern=pattern, figures=list(summary.FIGURES), **about)
