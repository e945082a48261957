"""The bytes of a request: files of a form, or the bare body."""

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import IO, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from service.inference.errors import RequestError
from service.inference.files import MAX_FILES, Upload, shortened

PART, PARTS = "image", "files"
"""The name of a file in a form: of the one image, of many."""
BARE = "request body"
"""What messages call an image that comes without a file name."""

_BINARY = {"type": "string", "format": "binary"}


def openapi(part: str, *, many: bool) -> dict[str, Any]:
    """Describe what `read` accepts, for the OpenAPI page."""
    schema = {"type": "array", "items": _BINARY} if many else _BINARY
    form = {"schema": {"type": "object", "required": [part], "properties": {part: schema}}}
    return {
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": form, "application/octet-stream": {"schema": _BINARY}},
        }
    }


async def read_one(request: Request) -> Upload:
    """Read the one image of `request`; raises RequestError for a form without exactly one image."""
    with _client_errors():
        if not _is_form(request):
            # Whatever the type says: curl calls a bare body a form unless told otherwise, and the decoder looks itself.
            return Upload(await request.body(), BARE)
        async with request.form(max_files=1, max_fields=10) as form:
            part = form.get(PART)
            if part is None or isinstance(part, str):
                received = f"parts {sorted(form)}" if part is None else "text"
                raise RequestError(
                    400, "missing_image", f"the form has {received} where a file '{PART}' was expected; "
                    f"for example: curl -F {PART}=@cell.tif",
                )  # fmt: skip
            return Upload(await part.read(), shortened(part.filename or BARE))


@asynccontextmanager
async def read_many(request: Request) -> AsyncIterator[list[tuple[str, IO[bytes]]]]:
    """Read the files of `request` and yield (name, opened file) of each, zips not yet opened.

    Raises RequestError for more than MAX_FILES, and for a form without a file.
    """
    with _client_errors():
        if not _is_form(request):
            yield [(BARE, io.BytesIO(await request.body()))]
            return
        async with request.form(max_files=MAX_FILES, max_fields=10) as form:
            files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
            if not files:
                raise RequestError(
                    400, "missing_image",
                    f"the form has no file; for example: curl -F {PARTS}=@cells.zip, or curl -F {PARTS}=@a.tif -F …",
                )  # fmt: skip
            yield [(shortened(part.filename or BARE), part.file) for part in files]


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


@contextmanager
def _client_errors() -> Iterator[None]:
    """Turn what a client did wrong on the way into a RequestError."""
    try:
        yield
    except ClientDisconnect as error:
        raise RequestError(400, "disconnected", "the client left before all of the request had come") from error
    except RequestError:
        raise
    except HTTPException as error:
        raise RequestError(400, "form", f"the form cannot be read: {error.detail}") from error
