"""API keys. `fatescope keys new` makes one, and prints the hash for `FATESCOPE_API_KEYS`.

The service knows the SHA-256 hash of each accepted key. A key has 256 random bits, so a fast hash is enough.

A browser cannot send a key with a link. Whoever has a key therefore gets links that open one document without it for
LINK_S: they carry the time at which they end and an HMAC of it and of the path, made with what the hashes of the keys
have in common, so that all gateways accept them and none does once the keys have changed.
"""

import hashlib
import hmac
import secrets
import time

from starlette._utils import get_route_path
from starlette.requests import Request

from service.inference.errors import RequestError

LINK_S = 24 * 3600
"""How long a link opens without a key."""
_KEY_BYTES = 32
_LINK = "link"
"""Parameter in the query of a link, `END-HMAC`."""


class APIKeyAuth:
    """Accepts requests with a known API key, or every request if there are no keys."""

    def __init__(self, key_hashes: tuple[bytes, ...]) -> None:
        """`key_hashes` are the SHA-256 hashes of the accepted keys."""
        self._key_hashes = key_hashes
        self._link_secret = hashlib.sha256(b"".join((b"link", *sorted(key_hashes)))).digest()

    def link(self, path: str) -> str:
        """Return a relative link to `path`, such as `/card/binary`, that opens without a key for LINK_S."""
        if not self._key_hashes:
            return path.removeprefix("/")
        end = str(int(time.time()) + LINK_S)
        return f"{path.removeprefix('/')}?{_LINK}={end}-{self._sign(path, end)}"

    def _sign(self, path: str, end: str) -> str:
        return hmac.digest(self._link_secret, f"{end} {path}".encode(), "sha256").hex()

    def _is_link(self, request: Request) -> bool:
        end, _, signature = request.query_params.get(_LINK, "").partition("-")
        if request.method != "GET" or not (end.isascii() and end.isdecimal()) or time.time() > int(end[:12]):
            return False
        return hmac.compare_digest(signature.encode(), self._sign(get_route_path(request.scope), end).encode())

    def check(self, request: Request) -> None:
        """Raise RequestError unless the request has an accepted key (a bearer token, or `X-API-Key`) or is a link."""
        if not self._key_hashes or self._is_link(request):
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        key_hash = hashlib.sha256(key.encode()).digest()
        # All hashes are compared, in constant time, so that the duration says nothing about them.
        if not sum(hmac.compare_digest(key_hash, accepted) for accepted in self._key_hashes):
            if _LINK in request.query_params:
                raise RequestError(401, "api_key", "this link is no longer valid; open it again from the page")
            raise RequestError(
                401, "api_key", "this service needs an API key; send it as the header 'Authorization: Bearer KEY'",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip


def new_key() -> tuple[str, str]:
    """Return a new API key, and its SHA-256 in hexadecimal, which is all that the service needs to know."""
    key = secrets.token_urlsafe(_KEY_BYTES)
    return key, hashlib.sha256(key.encode()).hexdigest()
