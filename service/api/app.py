"""The HTTP application: endpoints, middleware and error handlers. It does not know which server runs it."""

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.formparsers import MultiPartParser

from service.api.errors import add_error_handlers
from service.api.forms import MAX_IN_MEMORY
from service.api.headers import CACHE, DOCS_HEADERS, FOREVER, OFFLINE_HEADERS, WORKER_HEADERS
from service.api.hot_path import HotPathMiddleware
from service.api.middleware import AccessLogMiddleware, AdmissionMiddleware
from service.api.routes import (
    access,
    bundle,
    classification,
    comparison,
    description,
    explanation,
    labels,
    models,
    page,
    teaching,
)
from service.api.schemas import ErrorResponse
from service.api.state import state_of
from service.inference import metrics
from service.registry import follower

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse}
    for status in (400, 401, 403, 404, 405, 406, 408, 413, 422, 429, 500, 503, 504, 507)
}
_DOCS = Path(__file__).with_name("docs.html")

_VERSIONED = re.compile(r".*-\d+(?:\.\d+)+")
"""Folders whose names say which version of a library is in them."""
_HEADERS = {"private/worker.js": WORKER_HEADERS, "private/offline.js": OFFLINE_HEADERS}
"""Scripts of the page that are documents of their own to a browser."""

_operations = APIRouter(include_in_schema=False)


def build_app(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None) -> FastAPI:
    """Build the application.

    `lifespan` puts a ServiceState into `app.state.service` before the first request.
    """
    app = FastAPI(
        title="Fatescope", docs_url=None, redoc_url=None, responses=ERROR_RESPONSES, lifespan=lifespan,
        # Relative to the document, so that it is right behind any prefix that a proxy puts before the paths.
        servers=[{"url": "."}], root_path_in_servers=False,
        # The middleware counts and times; to look for OpenTelemetry at each request takes longer.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )  # fmt: skip
    MultiPartParser.spool_max_size = MAX_IN_MEMORY  # Starlette has no other way to say so
    app.add_middleware(HotPathMiddleware)  # innermost, so that what it answers is admitted, timed and logged too
    app.add_middleware(AdmissionMiddleware)
    app.add_middleware(AccessLogMiddleware)  # outermost, so that rejected requests are counted too
    add_error_handlers(app)
    for module in (
        classification,
        explanation,
        models,
        bundle,
        page,
        comparison,
        description,
        labels,
        teaching,
        access,
    ):
        app.include_router(module.router)
    app.include_router(_operations)
    app.mount("/page", _PageFiles(directory=page.PAGE), name="page")
    return app


class _PageFiles(StaticFiles):
    """The scripts and styles of the page, of which a browser asks each time whether they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:  # noqa: ANN401  as Starlette declares it
        response = super().file_response(*args, **kwargs)
        path = Path(args[0] if args else kwargs["full_path"])
        # Without it, a browser may put modules of two versions of the service together.
        response.headers["Cache-Control"] = FOREVER if _VERSIONED.fullmatch(path.parent.name) else CACHE
        response.headers.update(_HEADERS.get(f"{path.parent.name}/{path.name}", {}))
        return response


@_operations.get("/docs")
def docs() -> HTMLResponse:
    """Return the documentation of the endpoints, with the Swagger UI that BentoML serves: no other host is needed."""
    return HTMLResponse(_DOCS.read_text(encoding="utf-8"), headers=DOCS_HEADERS)


@_operations.get("/metrics")
def collect_metrics(request: Request) -> Response:
    """Return the metrics of all processes of the service for Prometheus."""
    store = state_of(request.scope).models.store
    return Response(metrics.collect(follower.status(store)), media_type=metrics.CONTENT_TYPE_LATEST)
