"""Query parameters that several endpoints have in common, and responses in a chosen format."""

from collections.abc import Sequence
from typing import IO, Annotated, Literal

from fastapi import Query
from fastapi.responses import Response

from fatescope import plural
from fatescope.data.native.slices import Cursor, SlicedSource
from service.api.formats import Document
from service.inference.errors import RequestError
from service.inference.files import shorten
from service.inference.slices import SlicedFile

MAX_SIZE = 1 << 50
"""Of a file that is sent in slices, bytes; no file is as large."""

Task = Annotated[str | None, Query(description="A task in service; /models lists them.")]
Label = Annotated[str, Query(description="The class that the map speaks for or against; /models lists them.")]
Name = Annotated[str, Query(description="Name of the file, for messages.")]
Size = Annotated[int, Query(ge=0, le=MAX_SIZE, description="Size of the whole file, bytes.")]
Offsets = Annotated[
    list[Annotated[int, Query(ge=0, le=MAX_SIZE)]],
    Query(description="Where in the file each slice begins, bytes, in the order of the slices."),
]
FormatName = Annotated[
    Literal["json", "csv", "parquet", "fcs"] | None, Query(description="Format of the response; overrides Accept.")
]


def download(document: Document, task: str) -> Response:
    """Return results in a format; all but JSON as a file to save."""
    filename = f"fatescope-{task}.{document.suffix}"
    headers = {} if document.suffix == "json" else {"Content-Disposition": f'attachment; filename="{filename}"'}
    return Response(document.body, media_type=document.media_type, headers=headers)


def sliced_file(
    parts: Sequence[tuple[str, IO[bytes]]], offsets: Sequence[int], name: str, size: int, cursor: str | None
) -> SlicedFile:
    """Return the file of which the `parts` are slices; raises RequestError where these are none of it."""
    if len(parts) != len(offsets):
        slices, starts = plural.count(len(parts), "slice"), plural.count(len(offsets), "offset")
        raise RequestError(422, "parameters", f"{slices}, but {starts}; send an offset for each slice")
    try:
        source = SlicedSource([(at, part.read()) for at, (_, part) in zip(offsets, parts, strict=True)], size)
        return SlicedFile(source, shorten(name), None if cursor is None else Cursor.parse(cursor))
    except ValueError as error:
        raise RequestError(422, "parameters", str(error)) from error
