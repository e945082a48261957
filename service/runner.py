"""The runner: the networks, on a GPU where there is one. The gateway sends it batches of cells, never files.

A call names task and version, so that a batch is answered by the version that its gateway serves while another is
being put in its place.
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

from fatescope.errors import FatescopeError
from fatescope.inference.bundle import Bundle
from fatescope.model_registry import model_name
from service.inference import engines
from service.registry import model_store
from service.registry.model_store import Readiness

log = logging.getLogger("bentoml.fatescope")

KEPT = 2
"""Versions of a task that stay loaded: batches for the one before may still be on their way."""
IDLE_S = 5.0
"""How long no gateway may have called before the runner follows a SIGTERM; each calls `stay` every second until it has
finished what it accepted."""
TIMEOUT_S = 120.0


def _resources() -> dict[str, int | str]:
    return {"gpu": engines.gpus()} if engines.gpus() else {"cpu": str(engines.threads())}


@bentoml.service(
    name="fatescope-runner",
    # One process a GPU; on a CPU one process has all its cores.
    workers=engines.gpus() or 1,
    # A new version is loaded beside the calls that the old one answers.
    threads=4,
    resources=_resources(),
    traffic={"timeout": TIMEOUT_S},
    # BentoML closes a connection after 100 requests, also while others wait on it (bentoml/BentoML pull 5522).
    runner_connection={"max_requests": 10**9, "max_age": 1e9},
    logging={"access": {"enabled": False}},
)
class Runner:
    """Says of cells what the network makes of them."""

    def __init__(self) -> None:
        if engines.gpus() > 1:
            engines.take_gpu((server_context.worker_index or 1) - 1)
        # NumPy has little to do here, but the threads of its BLAS would wait for more of it in a busy loop.
        threadpool_limits(1, user_api="blas")
        self._loaded: dict[tuple[str, str], tuple[Bundle, str]] = {}
        self._loading = threading.Lock()
        self._calls, self._last, self._counting = 0, time.monotonic(), threading.Lock()
        _outlive_gateways(self._idle)

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML ships no types
    def prepare(self, task: str, version: str) -> Readiness:
        """Load, check and warm a version; says why where that cannot be done."""
        with self._called():
            try:
                _, engine = self._get(task, version)
            except FatescopeError as error:
                return {"engine": "", "error": str(error)}
            return {"engine": engine, "error": None}

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML ships no types
    def stay(self) -> None:
        """Take note that a gateway is there, which may have cells to send."""
        with self._called():
            pass

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML ships no types
    def predict(self, task: str, version: str, pixels: np.ndarray) -> np.ndarray:
        """Return (B, K + 1 + C) for (B, H, W) pixels: logits, distance and the components of the embedding."""
        with self._called():
            loaded, _ = self._get(task, version)
            found = loaded.predict(pixels)
            return np.concatenate(
                [found.logits, loaded.ood_distance(found)[:, None], loaded.components(found)], axis=1, dtype=np.float32
            )

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML ships no types
    def explain(self, task: str, version: str, pixels: np.ndarray) -> np.ndarray:
        """Return the (B, K, h, w) activation maps of (B, H, W) pixels."""
        with self._called():
            loaded, _ = self._get(task, version)
            return loaded.predict(pixels).activation_map

    @contextmanager
    def _called(self) -> Iterator[None]:
        with self._counting:
            self._calls += 1
        try:
            yield
        finally:
            with self._counting:
                self._calls -= 1
                self._last = time.monotonic()

    def _idle(self) -> bool:
        return self._calls == 0 and time.monotonic() - self._last > IDLE_S

    def _get(self, task: str, version: str) -> tuple[Bundle, str]:
        found = self._loaded.get((task, version))
        if found is not None:
            return found
        with self._loading:
            if (task, version) not in self._loaded:
                self._loaded[task, version] = engines.start(model_store.locate(model_store.folder(), task, version))
                log.info("%s version %s: %s", model_name(task), version, self._loaded[task, version][1])
                for old in [key for key in self._loaded if key[0] == task][:-KEPT]:
                    del self._loaded[old]
            return self._loaded[task, version]


def _outlive_gateways(idle: Callable[[], bool]) -> None:
    """Follow a SIGTERM only once nobody calls: BentoML sends it to gateways and runners at the same time."""
    if threading.current_thread() is not threading.main_thread():
        return  # in a test, without a server
    follow = signal.getsignal(signal.SIGTERM)

    def wait(number: int, _: FrameType | None) -> None:
        def later() -> None:
            while not idle():
                time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(number, follow)
        threading.Thread(target=later, daemon=True).start()

    if callable(follow):
        signal.signal(signal.SIGTERM, wait)
