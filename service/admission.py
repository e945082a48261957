"""How much is taken on at a time: work that was accepted is finished, more is put off with a `Retry-After`."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from service.answers import RequestError

MAX_REQUESTS = 512
"""Requests in a process at a time."""
MAX_HELD_BYTES = 1_000_000_000
"""Bytes of bodies that a process holds at a time."""


class Admission:
    """Counts what a process has taken on."""

    def __init__(self, max_requests: int = MAX_REQUESTS, max_held: int = MAX_HELD_BYTES) -> None:
        self._max_requests, self._max_held = max_requests, max_held
        self._requests, self._held = 0, 0

    @contextmanager
    def admit(self, request: Request, largest: int) -> Iterator[None]:
        """Let `request`, with a body of up to `largest` bytes, in until the block ends; raises RequestError."""
        length = request.headers.get("content-length", "")
        # Without a length, it may become as long as it is allowed to.
        size = min(int(length), largest) if length.isdecimal() else largest
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
