"""The page for biologists, and the endpoints that it needs beside classification."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import numpy as np
from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, Response

from fatescope.errors import ImageError
from service.api import formats
from service.api.feedback import Correction
from service.api.headers import PAGE_HEADERS
from service.api.model_schemas import (
    FeatureDifference,
    FeedbackResponse,
    SummariseRequest,
    SummariseResponse,
)
from service.api.routes.parameters import FormatName, Task, download
from service.api.schemas import ClassifyBatchResponse, ClassShare
from service.api.state import state_of
from service.inference import summary
from service.inference.errors import RequestError
from service.inference.files import Upload, shorten
from service.inference.results import BatchDict

router = APIRouter(tags=["page"])

PAGE = Path(__file__).parents[2] / "page"


@router.post("/summarise")
def summarise(request: Request, sample: SummariseRequest, task: Task = None) -> SummariseResponse:
    """Summarise the cells of several requests, and compare their images with those that the model was trained on."""
    model = state_of(request.scope).models.get(task)
    classes, features = len(model.spec.classes), len(summary.FEATURES)
    if any(len(cell.probabilities) != classes or len(cell.figures) != features for cell in sample.cells):
        raise RequestError(
            422, "parameters", f"a cell needs {classes} probabilities and {features} figures; see /models"
        )
    probabilities = np.array([cell.probabilities for cell in sample.cells]).reshape(-1, classes)
    verdicts = np.array([cell.verdict for cell in sample.cells], np.str_)
    figures = np.array([cell.figures for cell in sample.cells]).reshape(-1, features)
    composition = summary.compose(probabilities, verdicts, model.spec)
    differences = summary.differences(figures, model.champion.path)
    return SummariseResponse(
        composition=composition and {name: ClassShare(**share) for name, share in composition.items()},
        differences=[FeatureDifference(**asdict(difference)) for difference in differences],
    )


@router.post("/export", response_class=Response)
def export(results: ClassifyBatchResponse, format: FormatName = "csv") -> Response:  # noqa: A002  the name in the query
    """Convert results that were merged from several requests to another format."""
    content = results.model_dump()
    for cell in content["cells"]:
        del cell["thumbnail"], cell["figures"]
    chosen = formats.FORMATS[format or "csv"]
    try:
        document = chosen.write(cast("BatchDict", content))
    except (ValueError, OverflowError) as error:
        raise RequestError(422, "parameters", f"the results cannot be written as {chosen.suffix}: {error}") from error
    return download(document, results.task)


@router.post("/feedback")
def correct(
    request: Request,
    image: Annotated[UploadFile, File(description="The image that was classified.")],
    label: Annotated[str, Form(description="The true class of the cell.")],
    called: Annotated[str, Form(description="The predicted class.", max_length=200)] = "",
    keep_image: Annotated[bool, Form(description="Whether the image may be stored.")] = False,
    task: Task = None,
) -> FeedbackResponse:
    """Store a correction for the next version of the data; the image only if the user allows it."""
    state = state_of(request.scope)
    model, raw, name = state.models.get(task), image.file.read(), shorten(image.filename or "cell")
    try:
        # An image that cannot be decoded could not be imported later either.
        model.decoder.decode_one(Upload(raw, name))
    except ImageError as error:
        raise RequestError(400, error.code, str(error), name) from error
    stored = state.feedback.add(Correction(name, raw, label, called, keep_image), model)
    return FeedbackResponse(**asdict(stored))


@router.get("/", include_in_schema=False)
def page() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)
