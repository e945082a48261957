"""A lesson: cells with labels that a client sends, what a head learns from them, and the bundle of it."""

import base64
import binascii
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope.errors import BundleError, DataError
from fatescope.teaching.guidance import contradictions, next_cells
from fatescope.teaching.lesson import Accuracy, Cells, Lesson, teach
from fatescope.teaching.shortcuts import audit
from fatescope.teaching.taught_bundle import Facts, Teacher, check_task, write
from service.api.schemas import ModelVersion
from service.api.teaching_schemas import (
    BundleRequest,
    ContradictedLabel,
    LessonRequest,
    LessonResponse,
    LessonResult,
    TaughtAccuracy,
    TaughtCell,
    TaughtClass,
    TaughtShortcut,
)
from service.inference.errors import RequestError
from service.inference.served_model import ServedModel
from service.inference.teaching import Layout


def answer_lesson(lesson: LessonRequest, model: ServedModel) -> LessonResponse:
    """Return what a head learns from the labels; raises RequestError where vectors or labels are damaged."""
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


def pack_bundle(lesson: BundleRequest, model: ServedModel) -> bytes:
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
