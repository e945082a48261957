"""Errors and warnings about a request, a file or an image, and their shape in the JSON of a response."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from fatescope.errors import FatescopeError

NO_DECODER = "decoding"
"""Code of the error where no process can decode a file for now."""


class Schema(BaseModel):
    """Base of all schemas: a field that is not declared is an error."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Schema):
    """Why a request, or one of its files, was rejected."""

    code: str = Field(examples=["not_an_image"], description="Stable: clients may rely on it.")
    message: str = Field(description="For people: the rule, the value received, and how to correct it.")
    file: str | None = Field(examples=["cell.tif"], description="The file concerned, if the error concerns one file.")


class ImageWarning(Schema):
    """Why a prediction deserves less trust."""

    code: str = Field(examples=["lossy"], description="Stable: `lossy`, `size`, `cut` or `channel`.")
    message: str = Field(description="For people.")


class RequestError(FatescopeError, HTTPException):
    """A request that is rejected because of what it contains or asks for, or because the service is overloaded.

    It is an HTTPException too, because Starlette passes only those on where it parses a body.
    """

    def __init__(
        self, status: int, code: str, message: str, file: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        HTTPException.__init__(self, status, message, headers)
        self.code, self.file = code, file

    def __str__(self) -> str:
        return str(self.detail)
