"""Teach a head from a few labels: the service keeps neither images, nor labels, nor what was taught."""

import asyncio
import base64
import binascii
import io
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from fatescope.data.native.analysis import read_analysis
from fatescope.errors import BundleError, DataError
from fatescope.teaching.guidance import contradictions, next_cells
from fatescope.teaching.lesson import Accuracy, Cells, Lesson, teach
from fatescope.teaching.shortcuts import audit
from fatescope.teaching.taught_bundle import Facts, Teacher, check_task, write
from service.api.forms import FILES_PART, openapi_body, read_many
from service.api.routes.parameters import Task
from service.api.schemas import ModelVersion
from service.api.state import state_of
from service.api.teaching_schemas import (
    MAX_CELLS,
    BundleRequest,
    ContradictedLabel,
    DescribeResponse,
    LessonRequest,
    LessonResponse,
    LessonResult,
    PopulationSpans,
    PopulationsResponse,
    TaughtAccuracy,
    TaughtCell,
    TaughtClass,
    TaughtShortcut,
)
from service.inference.errors import RequestError
from service.inference.served_model import ServedModel
from service.inference.teaching import Described, Layout, describe

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
    return await _in_turn(lambda: _teach(lesson, model))


def _teach(lesson: LessonRequest, model: ServedModel) -> LessonResponse:
    cells, known, labels, _ = _parse(lesson, model)
    labelled = labels != ""
    learned: Lesson | None = None
    result, needs = None, None
    try:
        learned = teach(known.among(labelled), labels[labelled])
        result = _result(learned, known.among(labelled), [cell.id for cell in cells if cell.label])
    except DataError as error:
        needs = str(error)
    following = next_cells(learned, known.among(labelled), known.among(~labelled), lesson.count)
    waiting = [cell.id for cell in cells if not cell.label]
    return LessonResponse(
        model=ModelVersion(**model.identity),
        task=model.spec.task,
        lesson=result,
        needs=needs,
        next=[waiting[row] for row in following],
    )


@router.post("/teach/bundle", response_class=Response, responses={200: {"content": {"application/zip": {}}}})
async def bundle(request: Request, lesson: BundleRequest, task: Task = None) -> Response:
    """Return a bundle with a head that was taught the labels, unsigned, as a zip.

    Register it with `fatescope models add`: it is served once somebody who may has signed it, and by the gate.
    """
    model = state_of(request.scope).models.get(task)
    content = await _in_turn(lambda: _pack(lesson, model))
    headers = {"Content-Disposition": f'attachment; filename="fatescope-{lesson.name}.zip"'}
    return Response(content, media_type="application/zip", headers=headers)


def _pack(lesson: BundleRequest, model: ServedModel) -> bytes:
    """Return the zip of a taught bundle; raises RequestError where there is none."""
    _, known, labels, facts = _parse(lesson, model)
    labelled = labels != ""
    teacher = Teacher(lesson.name, lesson.by, model.champion.name, model.champion.version)
    with tempfile.TemporaryDirectory(prefix="fatescope-taught-") as place:
        try:
            check_task(lesson.name)
            learned = teach(known.among(labelled), labels[labelled])
            shown = known.among(labelled)
            shortcuts = audit(shown, learned.targets, learned.classes, learned.folds)
            folder = Path(place) / "bundle"
            write(model.champion.path, folder, learned, shown, facts, teacher, shortcuts)
        except (DataError, BundleError) as error:
            raise RequestError(422, "lesson", str(error)) from error
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, f"{lesson.name}/{path.name}")
    return buffer.getvalue()


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


def _parse(lesson: LessonRequest, model: ServedModel) -> tuple[list[TaughtCell], Cells, npt.NDArray[np.str_], Facts]:
    """Return the cells of a lesson, each once, what is known of them, their labels, and facts of those with one."""
    if lesson.version != model.champion.version:
        raise RequestError(
            409, "version", f"the cells were described by version {lesson.version}, and version "
            f"{model.champion.version} is served now; describe them again with /teach/cells",
        )  # fmt: skip
    cells, layout = _each_once(lesson.cells), Layout.of(model)
    vectors = np.zeros((len(cells), layout.size), np.float32)
    for row, cell in enumerate(cells):
        try:
            # Without a shape, a single number would fill the row.
            vectors[row] = np.frombuffer(base64.b64decode(cell.vector, validate=True), "<f4").reshape(layout.size)
        except (ValueError, binascii.Error) as error:
            raise RequestError(
                422,
                "parameters",
                f"the vector of '{cell.id}' is not one of {layout.size} numbers that /teach/cells gave",
            ) from error
    if not np.isfinite(vectors).all() or np.abs(vectors).max(initial=0) > 1e9:
        raise RequestError(422, "parameters", "a vector holds what is no number of a cell")
    samples = np.array([cell.sample for cell in cells], np.str_)
    shown = [cell for cell in cells if cell.label]
    hashes = [int(cell.image_hash) for cell in shown]
    if not all(-(2**63) <= value < 2**63 for value in hashes):
        raise RequestError(422, "parameters", "image_hash: no hash of an image")
    facts = Facts(
        np.array([(cell.height, cell.width) for cell in shown], np.int64).reshape(-1, 2),
        np.array(hashes, np.int64),
        sorted({cell.bit_depth for cell in shown}),
    )
    embedding, features, acquisition = layout.split(vectors)
    labels = np.array([cell.label for cell in cells], np.str_)
    return cells, Cells(embedding, features, acquisition, samples), labels, facts


def _each_once(cells: list[TaughtCell]) -> list[TaughtCell]:
    """Return the cells without those whose image is there already, those with a label first.

    The same image in two samples would be on both sides of the cross-validation, which would then be of memory.
    """
    first = dict[str, TaughtCell]()
    for cell in sorted(cells, key=lambda cell: not cell.label):
        known = first.setdefault(cell.image_hash, cell)
        if cell.label and cell.label != known.label:
            raise RequestError(
                422,
                "lesson",
                f"'{known.id}' and '{cell.id}' are the same image, but are labelled '{known.label}' and "
                f"'{cell.label}'; correct one of the labels",
            )
    chosen = {id(cell) for cell in first.values()}
    return [cell for cell in cells if id(cell) in chosen]


def _result(learned: Lesson, shown: Cells, ids: list[str]) -> LessonResult:
    counts = np.bincount(learned.targets, minlength=len(learned.classes)).tolist()
    return LessonResult(
        classes=[
            TaughtClass(label=name, labels=count, recall=float(recall))
            for name, count, recall in zip(learned.classes, counts, learned.accuracy.recalls, strict=True)
        ],
        reads=learned.head.design,
        left_out=learned.folds.kind,
        accuracy=_accuracy(learned.accuracy),
        simple=_accuracy(learned.simple),
        shortcuts=[
            TaughtShortcut(
                description=one.description,
                balanced_accuracy=one.accuracy.value,
                chance=one.chance,
                suspicious=one.suspicious,
                words=one.words,
            )
            for one in audit(shown, learned.targets, learned.classes, learned.folds)
        ],
        contradicted=[
            ContradictedLabel(id=ids[one.row], label=one.label, called=one.called, probability=one.probability)
            for one in contradictions(learned)
        ],
    )


def _accuracy(accuracy: Accuracy) -> TaughtAccuracy:
    return TaughtAccuracy(value=accuracy.value, low=accuracy.low, high=accuracy.high, why=accuracy.why)
