"""The Bento that answers HTTP requests: `bentoml serve service.gateway:Fatescope`.

The endpoints (`service.api`) are a FastAPI application that BentoML mounts, not `bentoml.api` methods: those fetch URLs
that a client supplies, turn some client errors into status 500, and have their own error format. Where there is a GPU,
the networks run in `service.runner`, a process of its own for each; otherwise in this process, because a call to
another one takes longer than a small network. BentoML's tracing, access log and request metrics are off, because they
take half the time of a request and label by raw path; `service.api.middleware` has the log and the metrics that are
needed.
"""

import asyncio
import gc
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urlparse
from urllib.request import url2pathname

import bentoml
from bentoml.container import BentoMLContainer
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from threadpoolctl import threadpool_limits

from fatescope.errors import FatescopeError
from fatescope.ports import OTHER_PORT, check_port
from fatescope.sockets import shorten_tmpdir
from service import otlp, runner_protocol, server, startup, tracing
from service.api import key_file
from service.api.app import build_app
from service.api.state import ServiceState
from service.inference import engines, footprint, metrics_files
from service.inference.loaded_models import LoadedModels
from service.inference.local_runner import LocalRunner
from service.inference.served_model import RunnerClient
from service.registry import model_store
from service.runner import Runner
from service.settings import read_or_exit, variable

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

GC_THRESHOLDS = (50_000, 20, 100)
"""How often Python searches for reference cycles; requests leave hardly any."""
PORT = 3000

SETTINGS = read_or_exit()
RUNNER_PROCESS = engines.gpus() > 0 if SETTINGS.runner_process is None else SETTINGS.runner_process
server.use_own_metrics_folder()
server.restart_workers()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the models before the first request, and follow the champions until the last one is answered."""
    threadpool_limits(1, user_api="blas")  # see service.runner
    server.lengthen_keep_alive()
    metrics_files.tidy()  # of gateways and runners before
    app.state.service = state = ServiceState.from_settings(SETTINGS, _runner())
    await asyncio.gather(state.models.start(), asyncio.to_thread(state.pages.start))
    # What exists now is permanent. Otherwise the garbage collector would scan all modules again and again, and delay
    # responses by a tenth of a second each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    tracing.start("fatescope")
    footprint.publish_prices(SETTINGS.price_per_hour, SETTINGS.price_per_kwh)
    counting = footprint.start(gpus=False)
    following = [asyncio.create_task(work) for work in (state.models.follow(), state.pages.watch())]
    if state.shadow:
        state.shadow.start()
    yield
    for task in following:
        task.cancel()
    counting.set()
    await asyncio.to_thread(tracing.stop)
    await asyncio.to_thread(state.close)


def _runner() -> RunnerClient:
    if RUNNER_PROCESS:
        proxy = bentoml.get_current_service().runner.to_async
        return cast("RunnerClient", server.connect_to_runner(proxy, SETTINGS.runner_secret))
    threads = SETTINGS.threads or max(1, engines.available_cores() // SETTINGS.gateways)
    return LocalRunner(LoadedModels(model_store.store_folder(SETTINGS), SETTINGS.engine, threads))


@contextmanager
def _lasting_socket() -> Iterator[None]:
    """Have BentoML connect to the runner by another name of its Unix socket, one that lasts until the block ends.

    On a SIGTERM, BentoML deletes the folder of its sockets at once, so that no new connection could be made for the
    requests that the gateway has accepted and still answers.
    """
    name: str = Runner.name  # type: ignore[attr-defined]  # BentoML makes a service of the class
    addresses: dict[str, str] = BentoMLContainer.remote_runner_mapping.get()
    address = urlparse(addresses.get(name, ""))
    if address.scheme != "file":  # a runner elsewhere, see service.standalone
        yield
        return
    socket = Path(url2pathname(address.path))
    # Beside the folder of BentoML, because a hard link cannot leave the file system.
    with tempfile.TemporaryDirectory(prefix="fatescope-", dir=socket.parent.parent) as folder:
        link = Path(folder) / "runner.sock"
        try:
            link.hardlink_to(socket)
        except OSError as error:  # not every file system has hard links
            log.warning("requests in progress will fail when the service ends: %s", error)
            yield
            return
        BentoMLContainer.remote_runner_mapping.set({**addresses, name: link.as_uri()})
        yield


_application = build_app(_lifespan)


@bentoml.asgi_app(_application)
@bentoml.service(
    name="fatescope",
    workers=SETTINGS.gateways,
    http={"host": SETTINGS.host, "port": PORT},
    tracing={"excluded_urls": ".*"},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Fatescope:
    """Classifies label-free images of single cells."""

    if RUNNER_PROCESS:
        runner = bentoml.depends(Runner)

    def __init__(self) -> None:
        self._resources = ExitStack()
        # Before BentoML connects.
        self._resources.enter_context(_lasting_socket())

    async def __is_ready__(self) -> bool:
        """Affirm on `/readyz` where each model can be loaded and files can be decoded; otherwise say why not."""
        state: ServiceState = _application.state.service
        if reason := state.unready_reason:
            # BentoML's own response would not have it.
            raise HTTPException(503, reason)
        return True

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # BentoML ships no types
    def close(self) -> None:
        """Delete the name of the socket of the runner."""
        self._resources.close()

    @bentoml.on_deployment  # type: ignore[untyped-decorator]  # it also makes it static
    def prepare() -> None:
        """Check port and bundles before any worker starts: BentoML would run without a worker that fails to start."""
        # Here, because BentoML makes the folder of its sockets next.
        shorten_tmpdir()
        try:
            if address := startup.requested_address(SETTINGS.host, PORT):
                check_port(*address, OTHER_PORT)
            otlp.TracingSettings.read()
            if SETTINGS.keys is not None:
                key_file.read(SETTINGS.keys)
            store = model_store.ensure_store(SETTINGS)
            for champion in model_store.list_champions(store).values():
                model_store.read_spec(champion)
        except FatescopeError as error:
            sys.exit(f"error: {error}")
        # The worker processes inherit both.
        os.environ[variable("bundles")] = str(store)
        runner_protocol.share_secret()


server.lead_directly(Fatescope)
