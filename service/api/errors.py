"""What a request that cannot be answered is told, whoever refuses it: ours, the framework or a fault."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service.api.schemas import Refusal
from service.inference import metrics
from service.inference.errors import Problem, RequestError

log = logging.getLogger("bentoml.fatescope")


def refuse_in_json(app: FastAPI) -> None:
    """Make `app` answer RequestError, and what its framework refuses by itself, with a Refusal."""

    @app.exception_handler(RequestError)
    async def refuse(_: Request, error: RequestError) -> JSONResponse:
        return refusal(error)

    @app.exception_handler(HTTPException)
    async def refuse_http(_: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return _refusal(
            error.status_code, Problem(code=code, message=str(error.detail), file=None), error.headers or None
        )

    @app.exception_handler(RequestValidationError)
    async def refuse_parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        return _refusal(422, Problem(code="parameters", message=wrong, file=None))

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> JSONResponse:
        log.error("a request failed by a fault of ours", exc_info=error)
        message = "the service failed at this request, by a fault of its own; its log has the details"
        return _refusal(500, Problem(code="internal", message=message, file=None))


def refusal(error: RequestError) -> JSONResponse:
    """Return the answer that says why a request was refused."""
    return _refusal(error.status_code, Problem(code=error.code, message=str(error), file=error.file), error.headers)


def _refusal(status: int, problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    metrics.REFUSED.labels(problem.code).inc()
    return JSONResponse(Refusal(error=problem).model_dump(), status, dict(headers) if headers else None)
