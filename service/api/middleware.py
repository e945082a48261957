"""Middleware around all endpoints: admission of requests, and the access log with its metrics.

A request is admitted or refused before its body is read: by its key, its length and what the process is working on.
Accepted work is finished; clients in excess get a `Retry-After`. Paths are logged and counted as the routes spell
them, so that requests for unknown paths neither fill the log nor create new time series.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import refusal
from service.inference import metrics
from service.inference.errors import RequestError

log = logging.getLogger("bentoml.access")

MAX_BODY = {"/classify_batch": 500_000_000, "/summarise": 200_000_000, "/export": 200_000_000}
"""The longest body of a request, bytes, by path."""
MAX_BYTES = 20_000_000
"""The longest to any other path, and so the largest single image."""
OPEN = frozenset({"/", "/docs", "/openapi.json", "/metrics"})
"""What anyone may see: how to use the service, and what it counts."""
PAGE = "/page/"
"""So are the parts of the page, which tell nothing without a key."""
MAX_REQUESTS = 512
"""Requests in a process at a time."""
MAX_HELD_BYTES = 1_000_000_000
"""Bytes of bodies that a process holds at a time."""
REQUEST_ID = "fatescope.request_id"
"""Where the scope of a request has its number."""
OTHER = "other"
QUIET = frozenset({"/metrics"})
"""Paths that are asked for all the time, and are not logged."""


class AdmissionMiddleware:
    """Middleware around all endpoints; `app.state` has the `guard` and the `admission` that it asks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer why not."""
        if scope["type"] != "http" or scope["path"] in OPEN or scope["path"].startswith(PAGE):
            await self._app(scope, receive, send)
            return
        state, largest = scope["app"].state, MAX_BODY.get(scope["path"], MAX_BYTES)
        try:
            state.guard.check(Request(scope))
            with state.admission.admit(Headers(scope=scope), largest):
                await self._app(scope, _limit(receive, largest), send)
        except RequestError as error:
            await refusal(error)(scope, receive, send)


class AccessLogMiddleware:
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


class Admission:
    """Counts what a process has taken on."""

    def __init__(self, max_requests: int = MAX_REQUESTS, max_held: int = MAX_HELD_BYTES) -> None:
        self._max_requests, self._max_held = max_requests, max_held
        self._requests, self._held = 0, 0

    @contextmanager
    def admit(self, headers: Headers, largest: int) -> Iterator[None]:
        """Let a request with a body of up to `largest` bytes in until the block ends; raises RequestError."""
        length = headers.get("content-length", "")
        # Without a length, it may become as long as it is allowed to.
        size = int(length) if length.isdecimal() else largest
        if size > largest:
            raise _too_long(largest)
        if self._requests >= self._max_requests:
            raise RequestError(
                429, "too_many_requests", f"{self._requests} requests are being answered; try again in a second",
                headers={"Retry-After": "1"},
            )  # fmt: skip
        if self._held and self._held + size > self._max_held:
            raise RequestError(
                503, "overloaded", "large requests are being answered; try again in a few seconds",
                headers={"Retry-After": "5"},
            )  # fmt: skip
        self._requests += 1
        self._held += size
        try:
            yield
        finally:
            self._requests -= 1
            self._held -= size


def _limit(receive: Receive, limit: int) -> Receive:
    """Return `receive` that raises RequestError as soon as more than `limit` bytes have come."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_long(limit)
        return message

    return limited


def _too_long(limit: int) -> RequestError:
    return RequestError(
        413, "body_too_large", f"the body has more than {limit:,} bytes; send the cells in several requests"
    )
