"""API keys. `fatescope keys new` makes one, and prints the hash for `FATESCOPE_API_KEYS`.

The service knows the SHA-256 hash of each accepted key. A key has 256 random bits, so a fast hash is enough.
"""

import hashlib
import hmac
import secrets

from starlette.requests import Request

from service.inference.errors import RequestError

_KEY_BYTES = 32


class APIKeyAuth:
    """Accepts requests with a known API key, or every request if there are no keys."""

    def __init__(self, key_hashes: tuple[bytes, ...]) -> None:
        """`key_hashes` are the SHA-256 hashes of the accepted keys."""
        self._key_hashes = key_hashes

    def check(self, request: Request) -> None:
        """Raise RequestError unless the request has an accepted key, as a bearer token or in `X-API-Key`."""
        if not self._key_hashes:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        key_hash = hashlib.sha256(key.encode()).digest()
        # All hashes are compared, in constant time, so that the duration says nothing about them.
        if not sum(hmac.compare_digest(key_hash, accepted) for accepted in self._key_hashes):
            raise RequestError(
                401, "api_key", "this service needs an API key; send it as the header 'Authorization: Bearer KEY'",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip


def new_key() -> tuple[str, str]:
    """Return a new API key, and its SHA-256 in hexadecimal, which is all that the service needs to know."""
    key = secrets.token_urlsafe(_KEY_BYTES)
    return key, hashlib.sha256(key.encode()).hexdigest()
