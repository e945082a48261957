"""How long a request may take: to send the next part of its body, and to be computed once the body is complete.

Receiving as a whole has no limit, because it depends on the network of the client. Computing stops when the client has
gone, or its time is over, after the part that a thread is working on.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.inference.errors import RequestError

COMPUTE_S = 60.0
"""From the complete body to the beginning of the response."""
STALL_S = 60.0
"""Between two parts of a body."""


async def call(app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, long: bool) -> None:
    """Call `app` with a request; raises RequestError if it takes too long, or if the client goes.

    A request that is not `long` is computed to its end although its client has gone: listening would cost more.
    """
    request = _Request(receive, send, long=long)
    try:
        async with request.limit:
            await app(scope, request.receive, request.send)
    except TimeoutError as error:
        if not request.limit.expired():
            raise
        raise request.reason() from error
    finally:
        request.close()


class _Request:
    """A request whose time limit follows what is happening to it."""

    def __init__(self, receive: Receive, send: Send, *, long: bool) -> None:
        self._receive, self._send, self._long = receive, send, long
        self._clock = asyncio.get_running_loop().time
        self._receiving, self._complete, self._gone, self._answering = False, False, False, False
        self._listener: asyncio.Task[Message] | None = None
        self.limit = asyncio.timeout_at(self._clock() + COMPUTE_S)

    async def receive(self) -> Message:
        """Receive the next part of the body, or after it that the client has gone."""
        if self._complete:
            return await (asyncio.shield(self._listener) if self._listener else self._receive())
        self.limit.reschedule(self._clock() + STALL_S)
        self._receiving = True
        message = await self._receive()
        self._receiving = False
        if not message.get("more_body"):
            self._complete = True
            self.limit.reschedule(self._clock() + COMPUTE_S)
            if self._long and message["type"] == "http.request":
                self._listener = asyncio.create_task(self._listen())
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response, which may take as long as the client needs."""
        if not self._answering:
            self._answering = True
            self.limit.reschedule(None)
        await self._send(message)

    async def _listen(self) -> Message:
        message = await self._receive()
        if not self._answering and not self.limit.expired():
            self._gone = True
            self.limit.reschedule(self._clock())
        return message

    def reason(self) -> RequestError:
        """Return why the limit has expired."""
        if self._gone:
            return RequestError(400, "disconnected", "the client disconnected before it was answered")
        if self._receiving:
            return RequestError(
                408, "upload_stalled", f"nothing of the body arrived for {STALL_S:g} s; send the request again",
                headers={"Connection": "close"},
            )  # fmt: skip
        return RequestError(
            504, "timeout", f"computing took more than {COMPUTE_S:g} s; send the cells in several requests",
        )  # fmt: skip

    def close(self) -> None:
        """Stop listening."""
        if self._listener:
            self._listener.cancel()
