"""API keys: the one that a request has, by its SHA-256.

`FATESCOPE_API_KEYS` has hashes of keys without a name, and the file `FATESCOPE_KEYS` named ones with scopes, quotas and
an end (`service.api.key_file`), which may change while the service runs. A key has 256 random bits, so a fast hash is
enough, and the time that it takes to find a hash says nothing about a key.

A browser cannot send a key with a link. Whoever has a key therefore gets links that open one document without it for
LINK_S: they carry the time at which they end and an HMAC of it and of the path, made with what the hashes of the keys
have in common, so that all gateways accept them and none does once the keys have changed.
"""

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from starlette._utils import get_route_path
from starlette.requests import Request

from fatescope.errors import ParamsError
from service.api import key_file
from service.api.key_file import Key
from service.inference.errors import RequestError

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

LINK_S = 24 * 3600
"""How long a link opens without a key."""
RENEW_S = 2.0
"""Time between two looks at the file of keys: how long one that was revoked is still accepted."""
_KEY_BYTES = 32
_LINK = "link"
"""Parameter in the query of a link, `END-HMAC`."""


class APIKeyAuth:
    """Accepts requests with a known API key, or every request if there are no keys."""

    def __init__(self, key_hashes: tuple[bytes, ...], file: Path | None = None) -> None:
        """`key_hashes` are the SHA-256 hashes of accepted keys without a name; `file` has named ones.

        Raises ParamsError where the file cannot be read.
        """
        self._unnamed, self._file = [Key.unnamed(digest) for digest in key_hashes], file
        self.active = bool(key_hashes) or file is not None
        """Whether a key is asked for: also where all of a file have been revoked."""
        self._version, self._looked = self._file_version(), time.monotonic()
        self._accept(key_file.read(file) if file else ())

    def _accept(self, entries: Iterable[key_file.KeyEntry]) -> None:
        keys = [*self._unnamed, *map(Key.of, entries)]
        self._keys = {key.digest: key for key in keys}
        self._link_secret = hashlib.sha256(b"".join((b"link", *sorted(self._keys)))).digest()

    def _file_version(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.stat() if self._file else None
        except OSError:
            return None
        # The time of a change of rights too: a file that could not be read is read once it can be.
        return status and (status.st_ino, status.st_size, status.st_ctime_ns)

    def _renew(self) -> None:
        """Read the file again where it has changed; what is known stays where it cannot be read."""
        if self._file is None or time.monotonic() - self._looked < RENEW_S:
            return
        self._looked = time.monotonic()
        version = self._file_version()
        if version is None or version == self._version:
            return
        self._version = version
        try:
            self._accept(key_file.read(self._file))
        except ParamsError as error:
            log.error("the keys stay as they were: %s", error)  # noqa: TRY400  one line says it

    def find(self, name: str) -> Key | None:
        """Return the key of a name, if there is one."""
        return next((key for key in self._keys.values() if key.name == name), None)

    def link(self, path: str) -> str:
        """Return a relative link to `path`, such as `/card/binary`, that opens without a key for LINK_S."""
        if not self.active:
            return path.removeprefix("/")
        end = str(int(time.time()) + LINK_S)
        return f"{path.removeprefix('/')}?{_LINK}={end}-{self._sign(path, end)}"

    def _sign(self, path: str, end: str) -> str:
        return hmac.digest(self._link_secret, f"{end} {path}".encode(), "sha256").hex()

    def _is_link(self, request: Request) -> bool:
        end, _, signature = request.query_params.get(_LINK, "").partition("-")
        # Without a key there is no secret, and nobody who could have been given a link.
        if not self._keys or request.method != "GET":
            return False
        if not (end.isascii() and end.isdecimal()) or time.time() > int(end[:12]):
            return False
        return hmac.compare_digest(signature.encode(), self._sign(get_route_path(request.scope), end).encode())

    def check(self, request: Request) -> Key | None:
        """Return the key of a request (a bearer token, or `X-API-Key`); None for a link, or where none is asked for.

        Raises RequestError where it has neither.
        """
        if not self.active:
            return None
        self._renew()
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        sent = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        key = self._keys.get(hashlib.sha256(sent.encode()).digest())
        if key is not None and (key.expires is None or time.time() < key.expires):
            return key
        if self._is_link(request):
            return None
        if key is not None and key.expires is not None:
            ended = datetime.fromtimestamp(key.expires, UTC).date()
            message = f"the key '{key.name}' ended on {ended}; ask the operator for another one"
        elif _LINK in request.query_params:
            raise RequestError(401, "api_key", "this link is no longer valid; open it again from the page")
        else:
            message = "this service needs an API key; send it as the header 'Authorization: Bearer KEY'"
        raise RequestError(401, "api_key", message, headers={"WWW-Authenticate": "Bearer"})


def new_key() -> tuple[str, str]:
    """Return a new API key, and its SHA-256 in hexadecimal, which is all that the service needs to know."""
    key = secrets.token_urlsafe(_KEY_BYTES)
    return key, hashlib.sha256(key.encode()).hexdigest()
