"""Admission: how many requests, and how many bytes of them, a process works on at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers

from fatescope import plural
from service.inference.errors import RequestError

MAX_REQUESTS = 512
"""Requests in a process at a time."""
MAX_HELD_BYTES = 1_000_000_000
"""Total size of the request bodies that a process holds at a time."""


class Admission:
    """Counts the requests that a process has accepted and not answered yet."""

    def __init__(self, max_requests: int = MAX_REQUESTS, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_requests, self._max_held_bytes = max_requests, max_held_bytes
        self._requests, self._held_bytes = 0, 0

    @contextmanager
    def admit(self, headers: Headers, max_body: int) -> Iterator[None]:
        """Admit a request with a body of up to `max_body` bytes until the block ends; raises RequestError."""
        length = headers.get("content-length", "")
        # A body without a length may become as long as allowed.
        size = int(length) if length.isdecimal() else max_body
        if size > max_body:
            raise body_too_large(max_body)
        if self._requests >= self._max_requests:
            raise RequestError(
                429, "too_many_requests",
                f"{plural.count(self._requests, 'request is', 'requests are')} in progress; try again in a second",
                headers={"Retry-After": "1"},
            )  # fmt: skip
        # A single request is admitted whatever its size.
        if self._held_bytes and self._held_bytes + size > self._max_held_bytes:
            raise RequestError(
                503, "overloaded", "large requests are in progress; try again in a few seconds",
                headers={"Retry-After": "5"},
            )  # fmt: skip
        self._requests += 1
        self._held_bytes += size
        try:
            yield
        finally:
            self._requests -= 1
            self._held_bytes -= size


def body_too_large(max_body: int) -> RequestError:
    """Return the error for a body of more than `max_body` bytes."""
    return RequestError(
        413, "body_too_large", f"the body has more than {max_body:,} bytes; send the cells in several requests"
    )
