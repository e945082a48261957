"""The files in a request: parts of a form, or the whole body."""

import io
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import IO, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from service.inference.errors import RequestError
from service.inference.files import BODY_NAME, MAX_FILES, Upload, shorten

IMAGE_PART, FILES_PART, SLICES_PART = "image", "files", "slices"
"""Name of the form part of a single image, of one of many files, and of one of the slices of a file."""
_MAX_FIELDS = 10
MAX_IN_MEMORY = 32_000_000
"""Bytes of a file that are not written to disk: each part of a file there is written and read by a thread."""

_BINARY = {"type": "string", "format": "binary"}


def openapi_body(part: str, *, many: bool) -> dict[str, Any]:
    """Return the OpenAPI description of the bodies that `read_one` and `read_many` accept."""
    schema = {"type": "array", "items": _BINARY} if many else _BINARY
    content: dict[str, Any] = {"type": "object", "required": [part], "properties": {part: schema}}
    if not many:
        several = {
            "type": "object",
            "description": "For a model of several channels (`channels` in /models): a part for each, "
            f"{part}_CHANNEL, such as {part}_1 and {part}_6.",
            "patternProperties": {f"^{part}_.+$": _BINARY},
        }
        content = {"anyOf": [content, several]}
    form = {"schema": content}
    return {
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": form, "application/octet-stream": {"schema": _BINARY}},
        }
    }


async def read_one(request: Request, channels: Sequence[str] = ()) -> list[Upload]:
    """Read the image of a cell, or those of its `channels` where the model takes several, in their order.

    Raises RequestError for a form without exactly one image of each.
    """
    several = len(channels) > 1
    names = [f"{IMAGE_PART}_{channel}" for channel in channels] if several else [IMAGE_PART]
    example = f"for example: curl {' '.join(f'-F {name}=@cell{name.removeprefix(IMAGE_PART)}.tif' for name in names)}"
    code = "missing_channel" if several else "missing_image"
    with _client_errors():
        if not _is_form(request):
            if several:
                message = (
                    f"the model takes channels {' and '.join(channels)} of a cell, each in a part of a form; {example}"
                )
                raise RequestError(400, code, message)
            # The content type is ignored: curl declares a bare body a form, and the decoder recognises the format.
            return [Upload(await request.body(), BODY_NAME)]
        async with request.form(max_files=len(names), max_fields=_MAX_FIELDS) as form:
            uploads = []
            for name in names:
                part = form.get(name)
                if part is None or isinstance(part, str):
                    received = f"the parts {sorted(form)}" if part is None else "a text"
                    raise RequestError(
                        400, code, f"the form has {received} where a file '{name}' was expected; {example}"
                    )
                uploads.append(Upload(await part.read(), shorten(part.filename or BODY_NAME)))
            return uploads


@asynccontextmanager
async def read_many(request: Request) -> AsyncIterator[list[tuple[str, IO[bytes]]]]:
    """Read the files of a request, and yield the name and the opened file of each; zip archives stay packed.

    Raises RequestError for more than MAX_FILES, and for a form without a file.
    """
    with _client_errors():
        if not _is_form(request):
            yield [(BODY_NAME, io.BytesIO(await request.body()))]
            return
        async with request.form(max_files=MAX_FILES, max_fields=_MAX_FIELDS) as form:
            files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
            if not files:
                raise RequestError(
                    400, "missing_image", f"the form has no file; for example: curl -F {FILES_PART}=@cells.zip, "
                    f"or curl -F {FILES_PART}=@a.tif -F {FILES_PART}=@b.tif",
                )  # fmt: skip
            yield [(shorten(part.filename or BODY_NAME), part.file) for part in files]


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


@contextmanager
def _client_errors() -> Iterator[None]:
    """Turn errors of the client while it sends the body into a RequestError."""
    try:
        yield
    except ClientDisconnect as error:
        raise RequestError(400, "disconnected", "the client disconnected before the request was complete") from error
    except RequestError:
        raise
    except HTTPException as error:
        raise RequestError(400, "form", f"the form cannot be read: {error.detail}") from error
