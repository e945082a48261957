"""The bytes of a request: one image, as the part `image` of a form or as the bare body.

Nothing is ever fetched: an address is not an image.
"""

from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from service.answers import RequestError

MAX_BYTES = 20_000_000
"""The longest request body that is read."""
PART = "image"
BARE = "request body"
"""What messages call an image that comes without a file name."""

_BINARY = {"type": "string", "format": "binary"}
OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "required": [PART], "properties": {PART: _BINARY}}},
            "application/octet-stream": {"schema": _BINARY},
        },
    }
}
"""What `read` accepts, for the OpenAPI page."""


@dataclass(frozen=True)
class Upload:
    """One file as it came, not yet looked at."""

    raw: bytes
    name: str
    """The client's name for it; for messages only."""


async def read(request: Request) -> Upload:
    """Read the one image of `request`.

    Raises RequestError for more than MAX_BYTES, and for a form without exactly one image.
    """
    limited = Request(request.scope, _limit(request.receive))
    try:
        if limited.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return await _read_form(limited)
        # Whatever the type says: curl calls a bare body a form unless told otherwise, and the decoder looks for itself.
        return Upload(await limited.body(), BARE)
    except ClientDisconnect as error:
        raise RequestError(400, "disconnected", "the client left before all of the image had come") from error


async def _read_form(request: Request) -> Upload:
    try:
        async with request.form(max_files=1, max_fields=10) as form:
            part = form.get(PART)
            if part is None or isinstance(part, str):
                received = f"parts {sorted(form)}" if part is None else "text"
                raise RequestError(
                    400, "missing_image", f"the form has {received} where a file '{PART}' was expected; {_EXAMPLE}"
                )
            return Upload(await part.read(), part.filename or BARE)
    except HTTPException as error:
        raise RequestError(
            400, "form", f"the form cannot be read: {error.detail} Send one image; {_EXAMPLE}"
        ) from error


_EXAMPLE = f"for example: curl -F {PART}=@cell.tif"


def _limit(receive: Receive) -> Receive:
    """Return `receive` that raises RequestError as soon as more than MAX_BYTES have come."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BYTES:
            raise RequestError(
                413, "body_too_large", f"the body has more than {MAX_BYTES:,} bytes; send one cell a request"
            )
        return message

    return limited
