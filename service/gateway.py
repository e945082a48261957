"""The Bento that answers over HTTP: `bentoml serve service.gateway:Fatescope`.

`/classify` is a FastAPI route that BentoML mounts, not a `bentoml.api`: those fetch addresses that a client supplies,
turn some client errors into 500, and word a refusal in their own way. `/livez`, `/readyz`, `/metrics`, the access log
and the OpenAPI page remain BentoML's.
"""

import logging
import sys
from typing import Annotated

import bentoml
import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from opentelemetry import trace

from pipelines.core import images
from pipelines.core.errors import FatescopeError, ImageError
from service import models, uploads
from service.answers import Answer, Model, Refusal, RequestError, refuse_in_json
from service.models import Served
from service.uploads import Upload

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

MAX_PIXELS = 1_000_000
"""The most pixels that the header of an image may announce."""

app = FastAPI(title="Fatescope", docs_url=None, redoc_url=None, openapi_url=None)
refuse_in_json(app)


@bentoml.asgi_app(app)
@bentoml.service(name="fatescope", workers=1)
class Fatescope:
    """Classifies label-free images of single cells."""

    def __init__(self) -> None:
        self.models = models.load_all(models.folder())
        for served in self.models.values():
            log.info("%s version %s: %s", served.name, served.version, ", ".join(served.bundle.spec.classes))

    @bentoml.on_deployment  # type: ignore[untyped-decorator]  # it also makes it static
    def prepare() -> None:
        """Fetch and try the models before any worker starts: BentoML would go on without a worker that cannot."""
        try:
            models.load_all(models.folder())
        except FatescopeError as error:
            sys.exit(f"error: {error}")

    @app.post(
        "/classify",
        openapi_extra=uploads.OPENAPI,
        responses={status: {"model": Refusal} for status in (400, 404, 413, 422)},
    )
    async def classify(
        self, request: Request, task: Annotated[str | None, Query(description="A task that is served.")] = None
    ) -> Answer:
        """Classify one image of one cell."""
        served = self._choose(task)
        upload = await uploads.read(request)
        # Decoding and the model leave the event loop free to take other requests.
        return await run_in_threadpool(answer, upload, served)

    def _choose(self, task: str | None) -> Served:
        name = next(iter(self.models)) if task is None else task
        if name not in self.models:
            raise RequestError(404, "unknown_task", f"task '{name}' is not served; served are {sorted(self.models)}")
        return self.models[name]


def answer(upload: Upload, served: Served) -> Answer:
    """Return what the model says of the one cell in `upload`; raises RequestError for one it cannot judge."""
    try:
        pixels = read_cell(upload, served)
    except ImageError as error:
        raise RequestError(400, error.code, str(error), upload.name) from error
    probabilities = served.bundle.predict(pixels[None]).probabilities[0]
    spec = served.bundle.spec
    return Answer(
        label=spec.classes[int(probabilities.argmax())],
        probabilities=dict(zip(spec.classes, probabilities.tolist(), strict=True)),
        model=Model(name=served.name, version=served.version),
        task=spec.task,
        request_id=format(trace.get_current_span().get_span_context().span_id, "016x"),
    )


def read_cell(upload: Upload, served: Served) -> npt.NDArray[np.uint16]:
    """Return the (H, W) pixels of `upload` on the canvas of the model; raises ImageError for what it cannot judge."""
    headers = images.read_headers(upload.raw, upload.name)
    if len(headers) != 1:
        # Before decoding, because thousands of pages may share the same few bytes.
        raise ImageError("pages", f"{upload.name}: {len(headers)} pages where 1 was expected; send one cell a request")
    [(header, pixels)] = images.decode(upload.raw, upload.name, MAX_PIXELS)
    served.bundle.refuse_foreign(header, upload.name)
    return images.center(pixels, served.bundle.spec.canvas, upload.name)
