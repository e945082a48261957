"""Endpoints about the models in service."""

import io
import zipfile
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from safetensors.numpy import load_file

from fatescope.config import Dataset
from fatescope.data.crops import cut
from fatescope.inference import bundle
from fatescope.inference.bundle import Spec
from service.api.formats import FORMATS
from service.api.headers import CARD_HEADERS
from service.api.model_schemas import ChallengerInfo, ExamplesResponse, ModelInfo, TrackReading
from service.api.schemas import ModelVersion
from service.api.state import ServiceState, state_of
from service.inference import quality, summary, thumbnails
from service.inference.errors import RequestError
from service.inference.served_model import ServedModel
from service.shadow.versions import Standing

router = APIRouter(tags=["models"])

_CARD_HTML, _CARD_MARKDOWN = "card.html", "card.md"


@router.get("/models")
def list_models(request: Request) -> list[ModelInfo]:
    """List the models in service; that of the default task comes first."""
    state = state_of(request.scope)
    standings = state.shadow.standings() if state.shadow else {}
    return [_describe(model, state, standings.get(model.champion.task)) for model in state.models]


@router.get(
    "/card/{task}",
    response_class=Response,
    responses={200: {"description": "The model card.", "content": {"text/html": {}, "text/markdown": {}}}},
)
def card(request: Request, task: str) -> Response:
    """Return the model card of a task as HTML, or as Markdown if Accept asks for it."""
    model = _model(request, task)
    markdown = "text/markdown" in request.headers.get("accept", "")
    path = model.champion.path / (_CARD_MARKDOWN if markdown else _CARD_HTML)
    if not path.is_file():
        raise RequestError(
            404, "no_card", f"the bundle of {model.champion.name} version {model.champion.version} has no model card; "
            "those in the registry have one",
        )  # fmt: skip
    text = path.read_text(encoding="utf-8")
    if markdown:
        return PlainTextResponse(text, media_type="text/markdown", headers=CARD_HEADERS)
    return HTMLResponse(text, headers=CARD_HEADERS)


@router.get("/examples/{task}")
def examples(request: Request, task: str) -> ExamplesResponse:
    """Return pictures of cells like those that the model was trained on."""
    return ExamplesResponse(
        pictures=[
            thumbnails.thumbnail(cell if cell.ndim == 2 else cell[0]) for cell in _example_cells(_model(request, task))
        ]
    )


@router.get("/sample/{task}", response_class=Response)
def sample(request: Request, task: str) -> Response:
    """Return a zip archive of example cells to try the service with."""
    model = _model(request, task)
    buffer, bit_depth = io.BytesIO(), model.spec.bit_depths[-1]
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, cell in enumerate(_example_cells(model), 1):
            if cell.ndim == 2:
                archive.writestr(f"example/cell_{number}.tif", thumbnails.tiff(cell, bit_depth))
                continue
            for name, channel in zip(model.spec.inputs, cell, strict=True):
                archive.writestr(f"example/cell_{number}_Ch{name}.tif", thumbnails.tiff(channel, bit_depth))
    return Response(buffer.getvalue(), media_type="application/zip")


@router.get("/reference/{task}", response_class=Response)
def reference(request: Request, task: str) -> Response:
    """Return the reference cells of a task, which drift is measured against: a Parquet table without pixels."""
    path = _model(request, task).champion.path / bundle.REFERENCE
    return Response(path.read_bytes(), media_type=FORMATS["parquet"].media_type)


def _model(request: Request, task: str) -> ServedModel:
    return state_of(request.scope).models.get(task)


def _example_cells(model: ServedModel) -> list[npt.NDArray[np.uint16]]:
    """Return the test cells of a bundle, cropped to the largest size in its training data."""
    size = model.spec.height_px[1], model.spec.width_px[1]
    return [cut(cell, size) for cell in load_file(model.champion.path / bundle.TEST)["pixels"]]


def _describe(model: ServedModel, state: ServiceState, standing: Standing | None) -> ModelInfo:
    spec, champion = model.spec, model.champion
    return ModelInfo(
        task=spec.task,
        model=ModelVersion(name=champion.name, version=champion.version),
        classes=spec.classes,
        hierarchy=spec.hierarchy,
        backbone=spec.backbone,
        engine=model.engine,
        bit_depths=spec.bit_depths,
        channel=spec.channel,
        channels=spec.channels,
        height_px=spec.height_px,
        width_px=spec.width_px,
        pattern=spec.params.get("dataset", {}).get("pattern"),
        tracks=_describe_tracks(spec),
        figures=list(summary.feature_names(spec)),
        canvas=spec.canvas,
        coverage=spec.coverage,
        excludes_outside=None if spec.quality is None else quality.excludes(spec, requested=None),
        simulated=spec.simulated,
        prior=spec.prior,
        data_hash=spec.data_hash,
        git_commit=spec.git_commit,
        max_cells=state.max_cells,
        card=state.auth.link(f"/card/{spec.task}"),
        made=spec.made,
        challenger=ChallengerInfo(**asdict(standing)) if standing else None,
    )


def _describe_tracks(spec: Spec) -> TrackReading | None:
    if spec.tracks is None:
        return None
    dataset = Dataset.read(spec.params["dataset"])
    assert dataset.track is not None, "evidence is fitted on tracks"
    assert dataset.time is not None, "track and time belong together"
    return TrackReading(
        group=dataset.group,
        label=dataset.label,
        values=list(dataset.classes),
        track=dataset.track,
        time=dataset.time,
        correlation=spec.tracks.correlation,
        scale=spec.tracks.scale,
    )
