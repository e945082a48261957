"""How a gateway calls a runner: messages that hold data alone, from callers that know the secret of both.

BentoML sends pickles between services, and a pickle runs whatever code its sender wrote into it. Here a message is a
file of the format safetensors: its arrays, and in its metadata JSON for everything else. A runner refuses any other
type of body with 415 before it reads it, and a caller without the secret with 401. Probes and metrics need none.

Gateway and runner that start together get a secret of this start in their environment; those that start apart share
`FATESCOPE_RUNNER_SECRET`, or a file with it.
"""

import hmac
import json
import os
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fatescope import secret_files
from fatescope.errors import ParamsError
from service.settings import MIN_SECRET, ServiceSettings, variable

MEDIA_TYPE = "application/vnd.fatescope.message+safetensors"
SECRET = "runner-secret"  # noqa: S105  the name of its file
_BARE = "value"
"""The name of a value that has none."""
_LENGTH_BYTES = 8
"""Before the header of a safetensors file."""


def encode(value: object) -> bytes:
    """Return a message with `value`: an array, a mapping of names to arrays and what JSON holds, or what JSON holds."""
    fields = value if isinstance(value, Mapping) else {_BARE: value}
    arrays = {name: np.ascontiguousarray(item) for name, item in fields.items() if isinstance(item, np.ndarray)}
    others = {name: item for name, item in fields.items() if name not in arrays}
    return save(arrays, {"json": json.dumps(others), "bare": json.dumps(not isinstance(value, Mapping))})


def decode(message: bytes) -> Any:  # noqa: ANN401  whatever was encoded
    """Return the value of a message; raises ValueError for bytes that are none."""
    try:
        arrays = load(message)
        header = int.from_bytes(message[:_LENGTH_BYTES], "little")
        metadata = json.loads(message[_LENGTH_BYTES : _LENGTH_BYTES + header])["__metadata__"]
        fields = json.loads(metadata["json"]) | arrays
        return fields[_BARE] if json.loads(metadata["bare"]) else fields
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a message of a gateway or a runner: {error}") from error


class Guard:
    """Refuses calls of the runner that are not messages of a gateway which knows the secret."""

    def __init__(self, app: ASGIApp, secret: str | None) -> None:
        self._app = app
        self._expected = None if secret is None else authorization(secret).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it unread."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["method"] in ("GET", "HEAD")):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if headers.get("content-type", "") != MEDIA_TYPE:
            await _refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"a runner takes {MEDIA_TYPE}")(scope, receive, send)
        elif self._expected is None or not hmac.compare_digest(
            headers.get("authorization", "").encode("latin-1"), self._expected
        ):
            reason = f"the secret is not that of this runner; set {variable('runner_secret')} to the same on both"
            await _refuse(HTTPStatus.UNAUTHORIZED, reason)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _refuse(status: HTTPStatus, reason: str) -> JSONResponse:
    headers = {"Connection": "close"} | ({"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {})
    return JSONResponse({"error": reason}, status, headers)


def authorization(secret: str) -> str:
    """Return the header by which a gateway proves that it knows the secret."""
    return f"Bearer {secret}"


def own_secret(settings: ServiceSettings) -> str:
    """Return the secret of gateways and runners that start apart; raises ParamsError or FatescopeError.

    Without a setting, it is in a file of this user, which is made at first use: enough for one machine.
    """
    if settings.runner_secret is not None:
        return settings.runner_secret
    if settings.runner_secret_file is None:
        made = secret_files.make_once(secret_files.folder() / SECRET, lambda: secrets.token_hex(32).encode())
        return made.decode().strip()
    try:
        secret = settings.runner_secret_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{variable('runner_secret_file')}: {error}") from error
    if len(secret) < MIN_SECRET:
        raise ParamsError(
            f"{variable('runner_secret_file')}: fewer than {MIN_SECRET} characters; `openssl rand -hex 32`"
        )
    return secret


def share_secret(secret: str | None = None) -> None:
    """Put the secret into the environment of the processes that this one starts: by default one of this start."""
    if secret or not os.environ.get(variable("runner_secret")):
        os.environ[variable("runner_secret")] = secret or secrets.token_hex(32)
