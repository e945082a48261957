"""A number, a line of log and the metrics of every request.

Paths are told as the routes spell them: what a client asks for beyond them neither fills the log nor makes series.
"""

import logging
import os
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import metrics

log = logging.getLogger("bentoml.access")

REQUEST_ID = "fatescope.request_id"
"""Where the scope of a request has its number."""
OTHER = "other"
QUIET = frozenset({"/metrics"})
"""Paths that are asked for all the time, and are not logged."""


class Watched:
    """Middleware around all endpoints."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give a request its number, and time, count and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        number = scope[REQUEST_ID] = os.urandom(8).hex()
        status, begun = 500, time.perf_counter()

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", number.encode())]
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            taken = time.perf_counter() - begun
            path = getattr(scope.get("route"), "path", OTHER)
            metrics.requests(path, status, taken)
            if path not in QUIET:
                log.info("%s %s %s %d %.1f ms", number, scope["method"], path, status, 1000 * taken)
