"""What BentoML's server does otherwise than the service needs, and none of its options changes."""

import gc
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import uvicorn
from _bentoml_impl import serde  # type: ignore[import-untyped]
from _bentoml_sdk import Service  # type: ignore[import-untyped]
from bentoml import server_context, serving
from bentoml._internal.container import BentoMLContainer
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service import runner_protocol, startup

KEEP_ALIVE_S = 75
"""How long an idle connection stays open: longer than proxies keep theirs (60 s for nginx, AWS and Azure), which would
otherwise send a request into a connection that is being closed."""
_BENTOML_KEEP_ALIVE_S = 5
Model = TypeVar("Model")


@dataclass(frozen=True)
class Shortcut:
    """Passes each POST to the application itself, and all else through BentoML, which has the probes."""

    application: ASGIApp
    bento: Any

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        direct = scope["type"] == "http" and scope["method"] == "POST"
        await (self.application if direct else self.bento)(scope, receive, send)


class _DirectService(Service):  # type: ignore[misc]  # BentoML ships no types
    """A service whose application gets its requests without BentoML's layers, where these have nothing to do."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> Any:  # noqa: ANN401  as BentoML declares it
        bento, [(application, *_)] = super().to_asgi(is_main), self.mount_apps
        bento.user_middleware = [layer for layer in bento.user_middleware if layer.cls is not TimeoutMiddleware]
        return Shortcut(application, bento)


def lead_directly(service: Any) -> None:  # noqa: ANN401  BentoML ships no types
    """Have BentoML pass each POST to the application that `service` mounts, and answer it however long that takes.

    Its layers for tracing, its own context and routing, which are of no use here, take as long as a small network. Its
    time limit counts the upload, has an error format of its own, and keeps a timer for each request after the answer.
    """
    service.__class__ = _DirectService


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


class _Messages(serde.GenericSerde, serde.Serde):  # type: ignore[misc]  # BentoML ships no types
    """What BentoML calls to write and read the bodies of this media type, in place of its pickles."""

    media_type = runner_protocol.MEDIA_TYPE

    def serialize_model(self, model: Any) -> Any:  # noqa: ANN401  as BentoML declares it
        return self.serialize_value(model.model_dump())

    def deserialize_model(self, payload: Any, cls: type[Model]) -> Model:  # noqa: ANN401  the same
        validated: Model = cls.model_validate(self.deserialize_value(payload))  # type: ignore[attr-defined]
        return validated

    def serialize_value(self, obj: object) -> Any:  # noqa: ANN401  the same
        return serde.Payload((runner_protocol.encode(obj),))

    def deserialize_value(self, payload: Any) -> Any:  # noqa: ANN401  the same
        return runner_protocol.decode(b"".join(payload.data))


def replace_pickles() -> None:
    """Have BentoML read and write the messages of `service.runner_protocol` in this process, and never a pickle."""
    serde.ALL_SERDE.pop(serde.PickleSerde.media_type, None)
    serde.ALL_SERDE[runner_protocol.MEDIA_TYPE] = _Messages


def connect_to_runner(client: Any, secret: str | None) -> Any:  # noqa: ANN401  BentoML ships no types
    """Have BentoML's client of a runner send our messages with the secret, and return it."""
    client.media_type = runner_protocol.MEDIA_TYPE
    # It may have looked up the one of pickles already.
    vars(client).pop("serde", None)
    # Those of the session that it opens for its first call, which is still to come.
    client.default_headers["Authorization"] = runner_protocol.authorization(secret or "")
    return client
