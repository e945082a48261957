"""The Bento that answers over HTTP: `bentoml serve service.gateway:Fatescope`.

The endpoints (`service.api`) are FastAPI routes that BentoML mounts, not a `bentoml.api`: those fetch addresses that a
client supplies, turn some client errors into 500, and word a refusal in their own way. The networks are in
`service.runner`, a process of its own. BentoML's tracing, access log and request metrics are off: they take half of the
time of a request, and label by raw path; `service.api.access_log` does what is needed of them.
"""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import bentoml
from fastapi import FastAPI
from threadpoolctl import threadpool_limits

from fatescope.errors import FatescopeError
from service.api import auth
from service.api.app import app
from service.api.middleware import Admission
from service.inference.model_pool import Calls, Models
from service.inference.prediction_log import Recorder
from service.registry import model_store
from service.runner import Runner

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

WORKERS = "FATESCOPE_GATEWAYS"
"""Processes that read images and answer; one is busy at about a thousand images a second."""
COLLECTIONS = (50_000, 20, 100)
"""When Python looks for circular garbage: requests leave hardly any."""


@asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[None]:
    """Have the models ready before the first request, and follow the champions until the last."""
    threadpool_limits(1, user_api="blas")  # see service.runner
    app.state.guard, app.state.admission = auth.Guard(), Admission()
    app.state.models = models = Models(cast("Calls", bentoml.get_current_service().runner.to_async))
    app.state.recorder = recorder = Recorder.of_environment()
    await models.start()
    # What is there now stays. Without this, the collector would go through all modules again and again, and stop the
    # answers for a tenth of a second each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTIONS)
    following = asyncio.create_task(models.follow())
    yield
    following.cancel()
    await asyncio.to_thread(recorder.close)


app.router.lifespan_context = _running


@bentoml.asgi_app(app)
@bentoml.service(
    name="fatescope",
    workers=int(os.environ.get(WORKERS) or 1),
    # BentoML keeps a timer for each request until then, answered or not.
    traffic={"timeout": 60.0},
    http={"host": auth.host(), "port": 3000},
    tracing={"excluded_urls": ".*"},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Fatescope:
    """Classifies label-free images of single cells."""

    runner = bentoml.depends(Runner)

    @bentoml.on_deployment  # type: ignore[untyped-decorator]  # it also makes it static
    def prepare() -> None:
        """Settle what is served before any worker starts: BentoML would go on without a worker that cannot."""
        try:
            auth.accepted()
            model_store.settle()
            for champion in model_store.listed(model_store.folder()).values():
                model_store.read_spec(champion)
        except FatescopeError as error:
            sys.exit(f"error: {error}")
