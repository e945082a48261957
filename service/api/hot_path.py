"""The short way to the endpoint `/classify`, for the requests that nearly all of its clients send.

Routing, the parameters of the framework and its form parser take longer than a small network. A request for one cell,
as the body or in a form of one part, is therefore read and answered here, by the same functions as in
`service.api.routes.classification`; whatever else a request asks for goes on to that endpoint, with its body as it was.
"""

import re
from dataclasses import dataclass
from functools import partial

import orjson
from starlette._utils import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import tracing
from service.api.forms import IMAGE_PART
from service.api.middleware import REQUEST_ID
from service.api.state import state_of
from service.inference.classify import answer, classify_one
from service.inference.errors import RequestError
from service.inference.files import BODY_NAME, Upload, shorten

PATH = "/classify"
_QUERY = re.compile(rb"(?:task=([\w.-]+))?")
"""The queries that need no decoding: none, or a task alone."""
_FORM = re.compile(rb'multipart/form-data; *boundary=("?)([\w\'()+,./:=?-]{1,70})\1')
_PART = re.compile(
    rb'(?i:content-disposition: form-data; name)="' + IMAGE_PART.encode() + rb'"; (?i:filename)="([\w. +,=()-]{0,255})"'
    rb"(?:\r\n(?i:content-type): [\w./+-]{1,255})?\r\n\r\n"
)
"""The headers of the one part of a form, as clients write them: a file name in ASCII, without quotes in it. Case
matters in the name of the part alone. Longer headers are for the form parser, which has limits of its own."""
_JSON = (b"content-type", b"application/json")


@dataclass(frozen=True)
class _Route:
    """What the access log asks of a route."""

    path: str


class HotPathMiddleware:
    """Answers plain requests to PATH; `app` answers all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on; raises RequestError as the endpoint does."""
        own = scope["type"] == "http" and scope["method"] == "POST" and get_route_path(scope) == PATH
        query = _QUERY.fullmatch(scope["query_string"]) if own else None
        if query is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _Route(PATH)
        state, upload = state_of(scope), None
        model = state.models.get(query[1].decode() if query[1] else None)
        # None where the names of files have no channel.
        if len(model.spec.inputs) <= 1:
            body = await _read(receive)
            upload, receive = _only_file(_content_type(scope), body), _again(body, receive)
        if upload is None:
            await self._app(scope, receive, send)
            return
        record = partial(state.prediction_log.add, scope[REQUEST_ID])
        if state.canary:
            model, _, prediction = await state.canary.classify_one([upload], model, record, scope, scope[REQUEST_ID])
        else:
            _, prediction = await classify_one([upload], model, record)
        with tracing.span("respond"):
            response = orjson.dumps(answer(prediction, model, scope[REQUEST_ID]))
            headers = [_JSON, (b"content-length", b"%d" % len(response))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": response})


def _content_type(scope: Scope) -> bytes:
    return next((value for name, value in scope["headers"] if name == b"content-type"), b"")


async def _read(receive: Receive) -> bytes:
    """Receive the whole body; raises RequestError if the client goes."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError(400, "disconnected", "the client disconnected before the request was complete")
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _only_file(content_type: bytes, body: bytes) -> Upload | None:
    """Return the image of a request; None for a form that is to be read by the framework."""
    if not content_type.lower().startswith(b"multipart/form-data"):
        return Upload(body, BODY_NAME)
    form = _FORM.fullmatch(content_type)
    if form is None:
        return None
    begin, end = b"--" + form[2] + b"\r\n", b"\r\n--" + form[2]
    part = _PART.match(body, len(begin)) if body.startswith(begin) else None
    # Of one part alone, the first boundary behind its headers is the last of the form.
    if part is None or (stop := body.find(end, part.end())) < 0 or body[stop + len(end) :].rstrip(b"\r\n") != b"--":
        return None
    return Upload(body[part.end() : stop], shorten(part[1].decode() or BODY_NAME))


def _again(body: bytes, receive: Receive) -> Receive:
    """Return `receive` that begins with the body, which was received already."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
