"""Query parameters that several endpoints have in common, and responses in a chosen format."""

from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import Response

from service.api.formats import Format

Task = Annotated[str | None, Query(description="A task in service; /models lists them.")]
FormatName = Annotated[
    Literal["json", "csv", "parquet", "fcs"] | None, Query(description="Format of the response; overrides Accept.")
]


def download(chosen: Format, task: str, body: bytes) -> Response:
    """Return `body` in a format; all but JSON as a file to save."""
    filename = f"fatescope-{task}.{chosen.suffix}"
    headers = {} if chosen.suffix == "json" else {"Content-Disposition": f'attachment; filename="{filename}"'}
    return Response(body, media_type=chosen.media_type, headers=headers)
