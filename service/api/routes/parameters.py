"""Query parameters that several endpoints have in common, and responses in a chosen format."""

from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import Response

from service.api.formats import Document

Task = Annotated[str | None, Query(description="A task in service; /models lists them.")]
FormatName = Annotated[
    Literal["json", "csv", "parquet", "fcs"] | None, Query(description="Format of the response; overrides Accept.")
]


def download(document: Document, task: str) -> Response:
    """Return results in a format; all but JSON as a file to save."""
    filename = f"fatescope-{task}.{document.suffix}"
    headers = {} if document.suffix == "json" else {"Content-Disposition": f'attachment; filename="{filename}"'}
    return Response(document.body, media_type=document.media_type, headers=headers)
