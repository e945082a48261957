"""Middleware around all endpoints: authentication and admission, and the access log with its metrics.

A request is admitted or rejected before its body is read: by its API key, its origin, its length and the work in
progress. Admitted
requests are completed; clients in excess get a `Retry-After` header. Logs and metrics have the path as the route spells
it, so that requests for unknown paths neither fill the log nor create new time series.
"""

import logging
import os
import time

from starlette._utils import get_route_path
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import tracing
from service.api import time_limits
from service.api.access import KEY_NAME
from service.api.admission import body_too_large
from service.api.errors import error_response
from service.api.state import state_of
from service.inference import metrics
from service.inference.errors import RequestError

log = logging.getLogger("bentoml.access")

MAX_BODY = {
    "/classify_batch": 500_000_000,
    "/classify_slices": 50_000_000,
    "/explain": 200_000_000,
    "/explain_slices": 50_000_000,
    "/summarise": 200_000_000,
    "/export": 200_000_000,
    "/teach/cells": 500_000_000,
    "/teach/head": 200_000_000,
    "/teach/bundle": 200_000_000,
    "/teach/populations": 500_000_000,
}
"""Path → longest request body, bytes, where that of many cells is expected."""
DEFAULT_MAX_BODY = 20_000_000
"""The longest for all other paths, and so the largest single image."""
PUBLIC = frozenset({"/", "/docs", "/openapi.json", "/metrics"})
"""Paths that need no key: how to use the service, and its metrics."""
PUBLIC_PREFIX = "/page/"
"""Static files of the page, which shows nothing without a key."""
REQUEST_ID = "fatescope.request_id"
"""Key of the request's identifier in its ASGI scope."""
UNKNOWN_PATH = "other"
TRACED = frozenset({"/classify", *MAX_BODY})
"""Paths whose requests may be traced: those that work on cells."""
UNLOGGED = frozenset({"/metrics"})
"""Paths that are requested all the time."""


class AdmissionMiddleware:
    """Checks the key and the size of a request before its body is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond with the error."""
        # Without the prefix that a proxy may have put before it.
        path = get_route_path(scope) if scope["type"] == "http" else ""
        if not path or path in PUBLIC or path.startswith(PUBLIC_PREFIX):
            await self._app(scope, receive, send)
            return
        state, request, max_body = state_of(scope), Request(scope), MAX_BODY.get(path, DEFAULT_MAX_BODY)
        try:
            with state.access.grant(request, path):
                state.browsers.check(request)
                with state.admission.admit(request.headers, max_body):
                    await time_limits.call(self._app, scope, _limit(receive, max_body), send, long=path in MAX_BODY)
        except RequestError as error:
            await error_response(error)(scope, receive, send)


class AccessLogMiddleware:
    """Gives each request an identifier, and times, counts and logs it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and log its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = os.urandom(8).hex()
        status, start, method = 500, time.perf_counter(), scope["method"]
        traced = tracing.is_on() and get_route_path(scope) in TRACED
        trace = tracing.Request.begin(method, scope["headers"], request_id) if traced else None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            duration_s = time.perf_counter() - start
            path = getattr(scope.get("route"), "path", UNKNOWN_PATH)
            metrics.count_request(path, status, duration_s)
            if path not in UNLOGGED:
                key = scope.get(KEY_NAME)
                log.info(
                    "%s %s %s %d %.1f ms%s", request_id, method, path, status, 1000 * duration_s,
                    f" key {key}" if key else "",
                )  # fmt: skip
            if trace is not None:
                trace.end(method, path, status)


def _limit(receive: Receive, max_body: int) -> Receive:
    """Return `receive` that raises RequestError once more than `max_body` bytes have been received."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > max_body:
            raise body_too_large(max_body)
        return message

    return limited
