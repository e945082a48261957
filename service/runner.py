"""The runner: a Bento service that runs the networks, on a GPU if there is one. The gateway sends it batches of cells.

Each call names a task and a version, so that the version that accepted a request also answers it, while another one is
taking its place.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import bentoml
import numpy as np
from bentoml import server_context
from threadpoolctl import threadpool_limits

from service import runner_protocol, server, tracing
from service.inference import engines, footprint, metrics_files
from service.inference.loaded_models import LoadedModels
from service.inference.runner_output import Readiness
from service.registry import model_store
from service.settings import read_or_exit

IDLE_S = 5.0
"""Time without a call after which the runner obeys a SIGTERM; every gateway calls `keep_alive` each second until it has
answered what it accepted."""
LONGEST_S = 100.0
"""Time after which it obeys all the same. A gateway that was told to end with it has ended by then (90 s at most); one
that still calls was not, and finds another runner."""
TIMEOUT_S = 120.0
_IDLE_POLL_S = 0.1

SETTINGS = read_or_exit()
server.use_own_metrics_folder()
server.restart_workers()
server.replace_pickles()


def _resources() -> dict[str, int | str]:
    return {"gpu": engines.gpus()} if engines.gpus() else {"cpu": str(SETTINGS.threads or engines.available_cores())}


@bentoml.service(
    name="fatescope-runner",
    # One process per GPU; on a CPU, one process uses all its cores.
    workers=engines.gpus() or 1,
    # A new version is loaded while the old one answers calls.
    threads=4,
    resources=_resources(),
    traffic={"timeout": TIMEOUT_S},
    # BentoML closes a connection after 100 requests, even while others wait on it (bentoml/BentoML pull 5522).
    runner_connection={"max_requests": 10**9, "max_age": 1e9},
    logging={"access": {"enabled": False}},
)
class Runner:
    """Runs inference on batches of cells."""

    def __init__(self) -> None:
        if engines.gpus() > 1:
            engines.select_gpu((server_context.worker_index or 1) - 1)
        # NumPy has little to do here, but idle threads of its BLAS would spin on the cores of the engine.
        threadpool_limits(1, user_api="blas")
        # Gateways keep connections for longer than BentoML does, and would meet closed ones.
        server.lengthen_keep_alive()
        tracing.start("fatescope-runner")
        metrics_files.tidy()  # of gateways and runners before
        footprint.start(gpus=(server_context.worker_index or 1) == 1)
        store = model_store.store_folder(SETTINGS)
        self._models = LoadedModels(store, SETTINGS.engine, SETTINGS.threads, _end_process, SETTINGS.gpu_memory_share)
        self._running_calls, self._last_call = 0, time.monotonic()
        self._counting = threading.Lock()
        _outlive_gateways(self._is_idle)

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML ships no types
    def prepare(self, task: str, version: str) -> Readiness:
        """Load, check and warm up a version; the reply has the reason if that fails."""
        with self._call():
            return self._models.prepare(task, version)

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML ships no types
    def keep_alive(self) -> None:
        """Note that a gateway is running, and may still have cells to send."""
        with self._call():
            pass

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML ships no types
    def predict(self, task: str, version: str, pixels: np.ndarray, traceparent: str | None = None) -> np.ndarray:
        """Return the packed RunnerOutput, (B, K + 1 + C), for (B, H, W) pixels; `traceparent` is a traced caller."""
        with self._call():
            return self._models.predict(task, version, pixels, traceparent)

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML ships no types
    def explain(self, task: str, version: str, pixels: np.ndarray) -> np.ndarray:
        """Return the (B, K, h, w) activation maps of (B, H, W) pixels."""
        with self._call():
            return self._models.explain(task, version, pixels)

    def __is_ready__(self) -> bool:
        """Tell BentoML what `/readyz` answers: a runner that cannot use the GPU that it was to use gets no calls."""
        return not self._models.lacks_gpu

    def __is_alive__(self) -> bool:
        """Tell BentoML what `/livez` answers: such a runner is started again, since nobody calls it any more."""
        return not self._models.lacks_gpu

    @contextmanager
    def _call(self) -> Iterator[None]:
        with self._counting:
            self._running_calls += 1
        try:
            yield
        finally:
            with self._counting:
                self._running_calls -= 1
                self._last_call = time.monotonic()

    def _is_idle(self) -> bool:
        return self._running_calls == 0 and time.monotonic() - self._last_call > IDLE_S


Runner.add_asgi_middleware(runner_protocol.Guard, secret=SETTINGS.runner_secret)  # type: ignore[attr-defined]  # as above


def _end_process() -> None:
    """End this worker at once, for BentoML to start another one; a SIGTERM would wait for the gateways."""
    logging.shutdown()
    os._exit(1)


def _outlive_gateways(is_idle: Callable[[], bool]) -> None:
    """Obey a SIGTERM once no gateway calls any more, or after LONGEST_S.

    BentoML sends it to gateways and runners at the same time.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # in a test, without a server
    previous = signal.getsignal(signal.SIGTERM)

    def on_terminate(number: int, _: FrameType | None) -> None:
        def terminate_when_idle() -> None:
            deadline = time.monotonic() + LONGEST_S
            while not is_idle() and time.monotonic() < deadline:
                time.sleep(_IDLE_POLL_S)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(number, previous)
        threading.Thread(target=terminate_when_idle, daemon=True).start()

    if callable(previous):
        signal.signal(signal.SIGTERM, on_terminate)
