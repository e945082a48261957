"""What is wrong with a request, a file or an image: the exception, and its shape in the JSON of an answer."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from fatescope.errors import FatescopeError


class Answered(BaseModel):
    """Base of what is answered: nothing is in it that is not described."""

    model_config = ConfigDict(extra="forbid")


class Problem(Answered):
    """Why a request, or a file in it, was refused."""

    code: str = Field(examples=["not_an_image"], description="Stable: clients may rely on it.")
    message: str = Field(description="For people: the rule, the value received, and what makes it right.")
    file: str | None = Field(examples=["cell.tif"], description="The file that it is about, where it is about one.")


class Warned(Answered):
    """Why an answer deserves less trust, although it was given."""

    code: str = Field(examples=["lossy"], description="Stable: `lossy`, `size` or `cut`.")
    message: str = Field(description="For people.")


class RequestError(FatescopeError, HTTPException):
    """A request that cannot be answered, by no fault of its code.

    It is also one of the framework's own, which passes on such errors where it reads a body, and hides others.
    """

    def __init__(
        self, status: int, code: str, message: str, file: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        HTTPException.__init__(self, status, message, headers)
        self.code, self.file = code, file

    def __str__(self) -> str:
        return str(self.detail)
