"""API keys. `python -m service.api.auth` makes one and says what to put into the environment.

`FATESCOPE_API_KEYS` holds the SHA-256 of each key that is accepted, in hexadecimal, separated by commas. A key is 256
random bits, so that a fast hash is enough. Without the variable everyone who can reach the service may use it, and it
binds to 127.0.0.1 only, unless `--host` says otherwise.
"""

import hashlib
import hmac
import os
import re
import secrets

from starlette.requests import Request

from fatescope.errors import ParamsError
from service.inference.errors import RequestError

VARIABLE = "FATESCOPE_API_KEYS"


def accepted() -> list[bytes]:
    """Return the hashes of the keys that are accepted; raises ParamsError for one that is no SHA-256."""
    hashes = [each.strip().lower() for each in os.environ.get(VARIABLE, "").split(",") if each.strip()]
    for each in hashes:
        if not re.fullmatch(r"[0-9a-f]{64}", each):
            raise ParamsError(
                f"{VARIABLE}: an entry of {len(each)} characters is no SHA-256 in hexadecimal; make a key and its hash "
                "with `python -m service.api.auth`"
            )
    return [bytes.fromhex(each) for each in hashes]


def host() -> str:
    """Return the address to bind to where nobody says otherwise: all only where a key is asked for."""
    return "0.0.0.0" if os.environ.get(VARIABLE, "").strip() else "127.0.0.1"  # noqa: S104  on purpose


class Guard:
    """Lets those in who bring a key that is accepted."""

    def __init__(self) -> None:
        self._accepted = accepted()

    def check(self, request: Request) -> None:
        """Raise RequestError unless `request` has an accepted key, as a bearer token or in `X-API-Key`."""
        if not self._accepted:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        digest = hashlib.sha256(key.encode()).digest()
        # All are compared, and in constant time: how long it takes says nothing about them.
        if not sum(hmac.compare_digest(digest, each) for each in self._accepted):
            raise RequestError(
                401, "api_key", "this service needs an API key; send it as the header 'Authorization: Bearer KEY'",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip


def main() -> None:
    """Make a key."""
    key = secrets.token_urlsafe(32)
    print(f"key, for the client:    {key}")
    print(f"hash, for the service:  {VARIABLE}={hashlib.sha256(key.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
