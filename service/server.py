"""What BentoML's server does otherwise than the service needs, and none of its options changes."""

import gc
import os
from functools import cached_property
from typing import Any

import uvicorn
from _bentoml_sdk import Service  # type: ignore[import-untyped]
from bentoml import server_context, serving
from bentoml._internal.container import BentoMLContainer
from bentoml._internal.server.http.traffic import TimeoutMiddleware

from service import startup

KEEP_ALIVE_S = 75
"""How long an idle connection stays open: longer than proxies keep theirs (60 s for nginx, AWS and Azure), which would
otherwise send a request into a connection that is being closed."""
_BENTOML_KEEP_ALIVE_S = 5


class _UntimedService(Service):  # type: ignore[misc]  # BentoML ships no types
    """A service without BentoML's time limit."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> Any:  # noqa: ANN401  as BentoML declares it
        application = super().to_asgi(is_main)
        application.user_middleware = [
            layer for layer in application.user_middleware if layer.cls is not TimeoutMiddleware
        ]
        return application


def lift_time_limit(service: Any) -> None:  # noqa: ANN401  BentoML ships no types
    """Have BentoML answer requests of `service` however long they take.

    Its limit counts the upload, has an error format of its own, and keeps a timer for each request after the answer.
    """
    service.__class__ = _UntimedService


class _MetricsFolder(os.PathLike[str]):
    """The metrics folder of this start, which is made when its path is first asked for."""

    @cached_property
    def _path(self) -> str:
        return startup.metrics_folder()

    def __fspath__(self) -> str:
        return self._path


def use_own_metrics_folder() -> None:
    """Have BentoML count the metrics of this start in a folder that no other start uses."""
    # Worker processes get its path in their environment.
    if server_context.worker_index is None:
        BentoMLContainer.prometheus_multiproc_dir.set(_MetricsFolder())


def restart_workers() -> None:
    """Have BentoML start a worker process again that has ended, in a container too.

    There it ends the whole service with its last gateway or runner, and goes on with fewer if there are several.
    """
    serving.running_inside_container = lambda: False


def lengthen_keep_alive() -> None:
    """Let idle connections to the server of this process stay open for KEEP_ALIVE_S.

    BentoML takes the time from the command line only, and does not hand its configuration of Uvicorn to anyone.
    """
    for item in gc.get_objects():
        if type(item) is uvicorn.Config and item.timeout_keep_alive == _BENTOML_KEEP_ALIVE_S:
            item.timeout_keep_alive = KEEP_ALIVE_S
