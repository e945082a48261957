"""The queue: which cells a person should label next, so that it becomes known how right the model is now."""

from typing import Annotated

import numpy as np
import pandas as pd
from fastapi import APIRouter, Query, Request

from fatescope.errors import DataError
from fatescope.inference import label_queue
from fatescope.inference.labels import read_labels
from service.api.model_schemas import QueuedCell, QueueResponse
from service.api.routes.parameters import Task
from service.api.schemas import ModelVersion
from service.api.state import state_of
from service.inference.errors import RequestError
from service.inference.served_model import ServedModel
from service.settings import variable

router = APIRouter(tags=["labels"])


@router.get("/queue")
def queue(request: Request, task: Task = None) -> QueueResponse:
    """List the cells of the newest batch that nobody has labelled yet, in the order in which they should be.

    Say of each what it is with /feedback, which takes its `id`. The service keeps no images: whoever has the files
    finds a cell by its `image_hash`, which /classify_batch gives with `details`, as the page does.
    """
    return _list(request, state_of(request.scope).models.get(task))


@router.post("/queue")
def draw(
    request: Request,
    task: Task = None,
    cells: Annotated[int, Query(ge=label_queue.MIN_CELLS, le=5_000, description="Newest cells to draw from.")] = (
        label_queue.CELLS
    ),
    count: Annotated[int, Query(ge=1, le=1_000, description="Cells to draw.")] = label_queue.DRAWN,
) -> QueueResponse:
    """Draw a new batch of cells to label, from the newest predictions since the last one."""
    state = state_of(request.scope)
    model = state.models.get(task)
    if state.records is None:
        raise _no_records()
    try:
        label_queue.draw_batch(
            state.records,
            model.spec.task,
            model.champion.version,
            np.array(model.spec.prior),
            count=count,
            cells=cells,
        )
    except DataError as error:
        raise RequestError(409, "few_cells", str(error)) from error
    return _list(request, model)


def _list(request: Request, model: ServedModel) -> QueueResponse:
    state = state_of(request.scope)
    if state.records is None:
        raise _no_records()
    task, champion = model.spec.task, model.champion
    version = ModelVersion(name=champion.name, version=champion.version)
    batches = label_queue.read_batches(state.records, task, champion.version)
    if not batches:
        return QueueResponse(model=version, task=task, drawn=0, labelled=0, cells=[])
    newest, labels = batches[-1], read_labels(state.feedback.folder, task)
    waiting = newest.waiting(labels)
    return QueueResponse(
        model=version,
        task=task,
        drawn=len(newest.rows),
        labelled=len(newest.rows) - len(waiting),
        cells=_cells(waiting),
        disputed=_cells(newest.disputed(labels)),
    )


def _cells(rows: pd.DataFrame) -> list[QueuedCell]:
    columns = rows[["cell", "image_hash", "time", "label", "verdict"]]
    return [
        QueuedCell(id=cell, image_hash=str(pixels), time=time, label=label, verdict=verdict)
        for cell, pixels, time, label, verdict in columns.itertuples(index=False)
    ]


def _no_records() -> RequestError:
    return RequestError(
        409, "no_records", f"without a prediction log there is no queue; set {variable('records')} to a folder"
    )
