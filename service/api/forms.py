"""The files in a request: parts of a form, or the whole body."""

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import IO, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from service.inference.errors import RequestError
from service.inference.files import BODY_NAME, MAX_FILES, Upload, shorten

IMAGE_PART, FILES_PART = "image", "files"
"""Name of the form part of a single image, and of one of many files."""
_MAX_FIELDS = 10

_BINARY = {"type": "string", "format": "binary"}


def openapi_body(part: str, *, many: bool) -> dict[str, Any]:
    """Return the OpenAPI description of the bodies that `read_one` and `read_many` accept."""
    schema = {"type": "array", "items": _BINARY} if many else _BINARY
    form = {"schema": {"type": "object", "required": [part], "properties": {part: schema}}}
    return {
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": form, "application/octet-stream": {"schema": _BINARY}},
        }
    }


async def read_one(request: Request) -> Upload:
    """Read the image of a request; raises RequestError for a form without exactly one image."""
    with _client_errors():
        if not _is_form(request):
            # The content type is ignored: curl declares a bare body a form, and the decoder recognises the format.
            return Upload(await request.body(), BODY_NAME)
        async with request.form(max_files=1, max_fields=_MAX_FIELDS) as form:
            part = form.get(IMAGE_PART)
            if part is None or isinstance(part, str):
                received = f"the parts {sorted(form)}" if part is None else "a text"
                raise RequestError(
                    400, "missing_image", f"the form has {received} where a file '{IMAGE_PART}' was expected; "
                    f"for example: curl -F {IMAGE_PART}=@cell.tif",
                )  # fmt: skip
            return Upload(await part.read(), shorten(part.filename or BODY_NAME))


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
