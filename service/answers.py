"""What goes back over HTTP: the JSON of an answer, and of a refusal."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from pipelines.core.errors import FatescopeError


class Model(BaseModel):
    """The model that answered."""

    name: str = Field(examples=["fatescope-multiclass"])
    version: str = Field(examples=["3"])


class Answer(BaseModel):
    """What the model says of one cell."""

    label: str = Field(examples=["astrocyte"], description="The most probable class.")
    probabilities: dict[str, float] = Field(examples=[{"astrocyte": 0.9, "oligodendrocyte": 0.1}])
    model: Model
    task: str = Field(examples=["multiclass"])
    request_id: str = Field(description="The span of this request in the access log.")


class Problem(BaseModel):
    """Why a request was refused."""

    code: str = Field(examples=["not_an_image"], description="Stable: clients may rely on it.")
    message: str = Field(description="For people: the rule, the value received, and what makes it right.")
    file: str | None = Field(examples=["cell.tif"], description="The file that it is about, where it is about one.")


class Refusal(BaseModel):
    """The body of every 4xx."""

    error: Problem


class RequestError(FatescopeError):
    """A request that cannot be answered, by no fault of the service: `status` is the HTTP status, from 400 to 499."""

    def __init__(self, status: int, code: str, message: str, file: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.file = status, code, file


def refuse_in_json(app: FastAPI) -> None:
    """Make `app` answer RequestError, and what its framework refuses by itself, with a Refusal."""

    @app.exception_handler(RequestError)
    async def refuse(_: Request, error: RequestError) -> JSONResponse:
        return _refusal(error.status, Problem(code=error.code, message=str(error), file=error.file))

    @app.exception_handler(HTTPException)
    async def refuse_http(_: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return _refusal(error.status_code, Problem(code=code, message=str(error.detail), file=None))

    @app.exception_handler(RequestValidationError)
    async def refuse_parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        return _refusal(422, Problem(code="parameters", message=wrong, file=None))


def _refusal(status: int, problem: Problem) -> JSONResponse:
    return JSONResponse(Refusal(error=problem).model_dump(), status)
