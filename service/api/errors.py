"""Error responses: one JSON format, whether the service, the framework or a bug is the cause."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service.api.schemas import ErrorResponse
from service.inference import metrics
from service.inference.errors import ErrorDetail, RequestError

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only


def add_error_handlers(app: FastAPI) -> None:
    """Make `app` respond with an ErrorResponse to every error."""

    @app.exception_handler(RequestError)
    async def on_request_error(_: Request, error: RequestError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def on_http_exception(_: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return _response(error.status_code, code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        return _response(422, "parameters", "; ".join(problems))

    @app.exception_handler(Exception)
    async def on_bug(_: Request, error: Exception) -> JSONResponse:
        log.error("a request failed because of a bug", exc_info=error)
        return _response(500, "internal", "the service failed because of a bug; its log has the details")


def error_response(error: RequestError) -> JSONResponse:
    """Return the response to a request that is rejected with `error`."""
    return _response(error.status_code, error.code, str(error), error.file, error.headers)


def _response(
    status: int, code: str, message: str, file: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    metrics.REFUSED.labels(code).inc()
    body = ErrorResponse(error=ErrorDetail(code=code, message=message, file=file))
    return JSONResponse(body.model_dump(), status, dict(headers) if headers else None)
