"""The page for biologists, and the endpoints that it needs beside classification."""

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import numpy as np
from anyio import from_thread
from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, Response

from fatescope.data.crops import pixel_hash
from fatescope.errors import ImageError
from fatescope.inference import label_queue
from fatescope.inference.labels import read_labels
from service.api import formats
from service.api.batch_schemas import ClassifyBatchResponse
from service.api.feedback import Correction
from service.api.headers import PAGE_HEADERS
from service.api.model_schemas import (
    FeatureDifference,
    FeedbackResponse,
    SummariseRequest,
    SummariseResponse,
)
from service.api.routes.parameters import FormatName, Task, download
from service.api.schemas import ClassShare
from service.api.state import ServiceState, state_of
from service.inference import summary
from service.inference.errors import RequestError
from service.inference.files import Upload, shorten
from service.inference.results import BatchDict
from service.inference.served_model import ServedModel

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

router = APIRouter(tags=["page"])

PAGE = Path(__file__).parents[2] / "page"


@router.post("/summarise")
def summarise(request: Request, sample: SummariseRequest, task: Task = None) -> SummariseResponse:
    """Summarise the cells of several requests, and compare their images with those that the model was trained on."""
    model = state_of(request.scope).models.get(task)
    classes, features = len(model.spec.classes), len(summary.feature_names(model.spec))
    if any(len(cell.probabilities) != classes or len(cell.figures) != features for cell in sample.cells):
        raise RequestError(
            422, "parameters", f"a cell needs {classes} probabilities and {features} figures; see /models"
        )
    probabilities = np.array([cell.probabilities for cell in sample.cells]).reshape(-1, classes)
    verdicts = np.array([cell.verdict for cell in sample.cells], np.str_)
    figures = np.array([cell.figures for cell in sample.cells]).reshape(-1, features)
    composition = summary.compose(probabilities, verdicts, model.spec)
    differences = summary.differences(figures, model.spec, model.champion.path)
    return SummariseResponse(
        composition=composition and {name: ClassShare(**share) for name, share in composition.items()},
        differences=[FeatureDifference(**asdict(difference)) for difference in differences],
    )


@router.post("/export", response_class=Response)
def export(results: ClassifyBatchResponse, format: FormatName = "csv") -> Response:  # noqa: A002  the name in the query
    """Convert results that were merged from several requests to another format."""
    content = results.model_dump()
    for cell in content["cells"]:
        del cell["thumbnail"], cell["thumbnails"], cell["figures"], cell["image_hash"]
    chosen = formats.FORMATS[format or "csv"]
    try:
        document = chosen.write(cast("BatchDict", content))
    except (ValueError, OverflowError) as error:
        raise RequestError(422, "parameters", f"the results cannot be written as {chosen.suffix}: {error}") from error
    return download(document, results.task)


@router.post("/feedback")
def correct(  # noqa: PLR0913, PLR0917  the parts of a form
    request: Request,
    image: Annotated[
        list[UploadFile] | None,
        File(
            description="The image that was classified; where the model takes several channels, that of each. It may "
            "be left out where `cell` is given."
        ),
    ] = None,
    label: Annotated[
        str, Form(description="The true class of the cell; with `cell`, empty where nobody can tell it.")
    ] = "",
    called: Annotated[str, Form(description="The predicted class.", max_length=200)] = "",
    keep_image: Annotated[bool, Form(description="Whether the image may be stored.")] = False,
    cell: Annotated[
        str | None,
        Form(
            description="The `id` of the answer, or of a cell in /queue; of /classify the `request_id`.", max_length=100
        ),
    ] = None,
    asked: Annotated[
        bool,
        Form(
            description="Whether the cell was chosen to be labelled before anyone saw its answer; only such labels can "
            "show that a challenger is better. Cells of /queue are, whatever is said here."
        ),
    ] = False,
    task: Task = None,
) -> FeedbackResponse:
    """Store a correction for the next version of the data; the image only if the user allows it.

    What is said of the cells in /queue also tells how right the model is now. The first label of a cell counts, until
    the same key changes it, or one with the scope `admin` says otherwise; those of other keys are kept beside it.
    """
    state = state_of(request.scope)
    model = state.models.get(task)
    files = [Upload(part.file.read(), shorten(part.filename or "cell")) for part in image or []]
    if not files:
        if not cell:
            raise RequestError(422, "parameters", "send the image of the cell, or its id as `cell`")
        if keep_image:
            raise RequestError(422, "parameters", "keep_image: there is no image in this request to keep")
        return _store(state, Correction([], label, called, keep_image=False, cell=cell), model)
    try:
        # An image that cannot be decoded could not be imported later either.
        files = model.decoder.channels.in_order(files)
        decoded = model.decoder.decode_one(*files)
    except ImageError as error:
        raise RequestError(400, error.code, str(error), files[0].name) from error
    digest = pixel_hash(decoded.native)
    response = _store(state, Correction(files, label, called, keep_image, cell, digest), model)
    if state.shadow and label and response.counts:
        try:
            asked = asked or _is_drawn(state, model, cell)
            from_thread.run(partial(state.shadow.add_label, model, decoded, label, asked=asked))
        except Exception as error:  # noqa: BLE001  the correction is stored, and would be sent again
            log.warning("a label could not be compared: %s", error)
    return response


def _is_drawn(state: ServiceState, model: ServedModel, cell: str | None) -> bool:
    """Return whether the queue has drawn the cell of an answer, and so nobody has chosen it for that answer."""
    if cell is None or state.records is None:
        return False
    return label_queue.is_drawn(state.records, model.spec.task, model.champion.version, cell)


def _store(state: ServiceState, correction: Correction, model: ServedModel) -> FeedbackResponse:
    stored = state.feedback.add(correction, model)
    evidence = {"label": correction.label, "called": correction.called, "image_kept": stored.kept}
    state.audit.enter_correction(stored.correction, model.champion.name, model.champion.version, evidence)
    task, version = model.spec.task, model.champion.version
    named = label_queue.names_of(state.records, task, version, correction.cell, correction.image_hash)
    settled = read_labels(state.feedback.folder, task).settle(*named)
    counts = settled is None or settled.label == correction.label
    return FeedbackResponse(sha256=stored.sha256, kept=stored.kept, reason=stored.reason, counts=counts)


@router.get("/", include_in_schema=False)
def page() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)
