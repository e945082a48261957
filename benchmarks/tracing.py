"""What traces cost: processor time of a request to `/classify` without a collector, and with one at several shares.

The application runs in this process, without a server: bytes of a request in, bytes of its answer out, with a small
network, where tracing weighs most. Off and on take alternating turns of the same requests, and each turn counts the
processor time of all threads, that which encodes and sends the spans among them; the collector is another process. The
figure is the median over turns of the ratio to the turn without tracing beside it.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from benchmarks.report import Figure, publish
from fatescope.command import run
from service import otlp, tracing
from service.api.app import build_app
from service.api.state import ServiceState
from service.inference.loaded_models import LoadedModels
from service.inference.local_runner import LocalRunner
from service.settings import ServiceSettings
from tests.support.images import tiff, typical

TURNS, REQUESTS = 60, 200
SEED = 0
SHARES = {0.0: None, 0.01: "<= 1.02", 1.0: None}
"""Share of requests that are traced → the bar for the time of a request, as a multiple of that without tracing."""

COLLECTOR = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


async def answer(application: Any, body: bytes) -> None:  # noqa: ANN401  an ASGI application
    """Have the application answer one request."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/classify",
        "raw_path": b"/classify", "root_path": "", "scheme": "http", "query_string": b"", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 3000), "app": application,
        "headers": [(b"host", b"127.0.0.1:3000"), (b"content-length", b"%d" % len(body))],
    }  # fmt: skip
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:  # noqa: ANN401  as ASGI has it
        return pending.pop()

    async def send(message: Any) -> None:  # noqa: ANN401  the same
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise RuntimeError(f"status {message['status']}")

    await application(scope, receive, send)


class _Collecting:
    """Traces a share of the requests while it is entered, and sends their spans before it ends."""

    def __init__(self, share: float, address: str) -> None:
        self.share = share
        self.provider = TracerProvider(TraceIdRatioBased(share), shutdown_on_exit=False)
        exporter = otlp.Exporter(otlp.TracingSettings(endpoint=address))
        self.provider.add_span_processor(BatchSpanProcessor(exporter))

    def __enter__(self) -> None:
        tracing.use(self.provider)

    def __exit__(self, *_: object) -> None:
        self.provider.force_flush()
        tracing.use(None)


async def _turn(
    application: Any,  # noqa: ANN401  as above
    body: bytes,
    requests: int,
    collecting: AbstractContextManager[None] = nullcontext(),  # noqa: B008  it has no state
) -> float:
    """Return the processor time of a request, seconds."""
    start = time.process_time()
    with collecting:
        for _ in range(requests):
            await answer(application, body)
    return (time.process_time() - start) / requests


async def measure(bundles: Path, folder: Path, address: str, turns: int, requests: int) -> list[Figure]:
    """Return the figures."""
    settings = ServiceSettings(
        bundles=bundles, records=folder / "records", feedback=folder / "feedback", engine="onnxruntime", threads=1,
        decoders=0,
    )  # fmt: skip
    application = build_app()
    runner = LocalRunner(LoadedModels(bundles, settings.engine, settings.threads))
    application.state.service = state = ServiceState.from_settings(settings, runner)
    await state.models.start()
    body = tiff(typical(SEED))  # type: ignore[no-untyped-call]  # of the tests
    await _turn(application, body, requests)
    collectors = [_Collecting(share, address) for share in SHARES]
    off: list[float] = []
    ratios: dict[float, list[float]] = {share: [] for share in SHARES}
    for turn in range(turns):
        untraced = await _turn(application, body, requests)
        off.append(untraced)
        # In another order each time, so that none always comes after the same one.
        for collecting in collectors[turn % 3 :] + collectors[: turn % 3]:
            traced = await _turn(application, body, requests, collecting)
            ratios[collecting.share].append(traced / untraced)
    for collecting in collectors:
        collecting.provider.shutdown()
    state.prediction_log.close()
    state.pages.close()
    return [
        Figure("processor time of a request without tracing, milliseconds", 1e3 * median(off)),
        *(
            Figure(f"multiple of it with {share:.0%} traced", median(ratios[share]), bar)
            for share, bar in SHARES.items()
        ),
    ]


def main(
    bundles: Annotated[Path, typer.Option(help="Folder with the bundle of one task or more.")] = Path(
        "tests/data/bundles"
    ),
    turns: Annotated[int, typer.Option(min=1, help="Turns of each kind.")] = TURNS,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a turn.")] = REQUESTS,
) -> None:
    """Measure, print and write the figures."""
    with (
        tempfile.TemporaryDirectory(prefix="fatescope-") as name,
        subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True) as collector,
    ):
        try:
            assert collector.stdout is not None
            address = f"http://127.0.0.1:{collector.stdout.readline().strip()}"
            served = Path(name) / "bundles"
            shutil.copytree(bundles, served, ignore=shutil.ignore_patterns("*.md"))
            figures = asyncio.run(measure(served, Path(name), address, turns, requests))
        finally:
            collector.terminate()
    publish("tracing", figures, ["opentelemetry-sdk", "opentelemetry-proto"], SEED)


if __name__ == "__main__":
    run(main)
