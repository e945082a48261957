"""The bytes of a request: files of a form, or the bare body; a zip is opened, in memory.

Nothing is ever fetched: an address is not an image. Nothing of a zip is ever written.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import IO, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from fatescope.data import paths
from fatescope.errors import ImageError
from service.refusals import RequestError

MAX_FILE_BYTES = 200_000_000
"""The largest file in a request for many: a TIFF may have thousands of pages."""
MAX_FILES = 20_000
"""Files in a request, those in a zip included, but for those of channels that no model looks at."""
MAX_EXPANDED_BYTES = 2_000_000_000
"""What the files of a zip may have together, unpacked."""
MAX_NAME = 500
"""Characters of a file name."""
PART, PARTS = "image", "files"
"""The name of a file in a form: of the one image, of many."""
BARE = "request body"
"""What messages call an image that comes without a file name."""

_BINARY = {"type": "string", "format": "binary"}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED = 0x1


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


@dataclass(frozen=True)
class Upload:
    """One file as it came, not yet looked at."""

    raw: bytes
    name: str
    """The client's name for it; for messages only."""


@dataclass(frozen=True)
class Refused:
    """A file that was not even read."""

    name: str
    error: ImageError


@dataclass(frozen=True)
class OtherChannel:
    """A file of a channel that the model does not look at: part of every whole export, and no mistake."""

    name: str


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
            return Upload(await part.read(), _shortened(part.filename or BARE))


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
            yield [(_shortened(part.filename or BARE), part.file) for part in files]


def unpack(
    files: list[tuple[str, IO[bytes]]], is_other: Callable[[str], bool]
) -> Iterator[Upload | Refused | OtherChannel]:
    """Yield every file, those in zips included; one that cannot be read is yielded with the reason.

    A file that `is_other` tells by its name is not unpacked. Raises RequestError for zips that announce more than is
    allowed, before anything is unpacked.
    """
    opened = [(name, file, _open_zip(name, file)) for name, file in files]
    inside = [member for _, _, each in opened if isinstance(each, zipfile.ZipFile) for member in members(each)]
    _check_zips([member for member in inside if not is_other(member.filename)], len(files))
    for name, file, archive in opened:
        if isinstance(archive, zipfile.ZipFile):
            for member in members(archive):
                other = is_other(member.filename)
                yield OtherChannel(member.filename) if other else _read_member(archive, member, name)
        elif is_other(name):
            yield OtherChannel(name)
        elif archive is not None:
            yield archive
        else:
            file.seek(0)
            raw = file.read(MAX_FILE_BYTES + 1)
            yield Upload(raw, name) if len(raw) <= MAX_FILE_BYTES else Refused(name, _too_large(name))


def members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return what is a file in a zip, without folders and what systems hide there."""
    return [each for each in archive.infolist() if not each.is_dir() and not paths.is_hidden(each.filename)]


def _open_zip(name: str, file: IO[bytes]) -> zipfile.ZipFile | Refused | None:
    file.seek(0)
    if file.read(4) not in _ZIP:
        return None
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        return Refused(name, ImageError("zip", f"{name}: a zip that cannot be opened ({error}); pack it again"))


def _check_zips(inside: list[zipfile.ZipInfo], files: int) -> None:
    if files + len(inside) > MAX_FILES:
        raise RequestError(
            413, "too_many_files", f"{files + len(inside):,} files, but a request may have {MAX_FILES:,}; "
            "send the cells in several requests",
        )  # fmt: skip
    expanded = sum(member.file_size for member in inside)
    if expanded > MAX_EXPANDED_BYTES:
        raise RequestError(
            413, "zip_too_large", f"the zip has {expanded:,} bytes unpacked, but {MAX_EXPANDED_BYTES:,} are allowed; "
            "send the cells in several requests",
        )  # fmt: skip


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, zip_name: str) -> Upload | Refused:
    name = _shortened(member.filename)
    if member.flag_bits & _ENCRYPTED:
        return Refused(name, ImageError("zip", f"{name}: encrypted in {zip_name}; pack it without a password"))
    if member.file_size > MAX_FILE_BYTES:
        return Refused(name, _too_large(name))
    try:
        # No more is unpacked than was announced.
        return Upload(archive.read(member), name)
    # A zip that is damaged fails in all these ways.
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        RuntimeError,
        struct.error,
        zlib.error,
        EOFError,
        MemoryError,
    ) as e:
        return Refused(name, ImageError("zip", f"{name}: cannot be unpacked from {zip_name} ({e}); pack it again"))


def _too_large(name: str) -> ImageError:
    return ImageError(
        "too_large", f"{name}: a file may have {MAX_FILE_BYTES:,} bytes; export one cell a file, or fewer pages"
    )


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"…{name[-MAX_NAME:]}"


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
