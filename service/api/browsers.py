"""Requests that a browser sends on behalf of another site, to a service that asks for no key.

Such a site knows no key, so a service with keys needs none of this. Without keys, everything that reaches the service
may use it, and so might any page that is open in a browser on the same machine: by a request across sites, which the
browser marks, or by DNS rebinding, where a name of that site comes to point at this service.
"""

import ipaddress
import socket
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.requests import Request

from service.inference.errors import RequestError
from service.settings import variable

_LOCAL = (".localhost", ".local", ".internal", ".svc")
"""Endings of names that only a local network resolves; a name without a dot is local too."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
_SAME_SITE = frozenset({"same-origin", "none"})
"""`Sec-Fetch-Site` of the page of this service, and of what the user typed."""


class BrowserGuard:
    """Refuses requests that other sites have a browser send."""

    def __init__(self, hosts: tuple[str, ...], *, active: bool) -> None:
        """`hosts` are the names of this service beside local ones; `active` is false where it asks for keys."""
        self._listed, self._active = frozenset(hosts), active
        self._names = self._listed | {socket.gethostname().lower()}

    def check(self, request: Request) -> None:
        """Raise RequestError if the request is to a name of another site, or would change something on its behalf."""
        if not self._active:
            return
        host = request.headers.get("host", "")
        name = _name(host)
        if not (_is_local(name) or name in self._names):
            raise RequestError(
                403, "host", f"'{name[:100]}' is not a name of this service, which has no keys; use an IP address or a "
                f"local name, list the name in {variable('hosts')}, or set {variable('api_keys')}",
            )  # fmt: skip
        if request.method not in _SAFE_METHODS and not self._is_own(request, host):
            raise RequestError(
                403, "cross_site", "this request comes from a page of another site; send it from the page of this "
                f"service or from a program, list the site in {variable('hosts')}, or set {variable('api_keys')}",
            )  # fmt: skip

    def _is_own(self, request: Request, host: str) -> bool:
        """Return whether a request is from the page of this service, or from a program, which sends neither header."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site is not None and site in _SAME_SITE:
            return True
        if origin is None:
            return site is None
        # Browsers send `Sec-Fetch-Site` over HTTPS and to localhost only. A page cannot forge X-Forwarded-Host across
        # sites: the browser would ask for permission first.
        netloc = _netloc(origin)
        # Each proxy of several adds its own name; the first is what the browser asked for.
        forwarded = request.headers.get("x-forwarded-host", "").partition(",")[0].strip()
        own = {host.lower(), (forwarded or host).lower()}
        return (site is None and netloc in own) or _name(netloc) in self._listed


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


@lru_cache(maxsize=64)
def _name(host: str) -> str:
    """Return a host without its port, in lower case."""
    try:
        parts = urlsplit(f"//{host}")
    except ValueError:
        return ""
    return (parts.hostname or "").rstrip(".") if parts.netloc == host else ""


@lru_cache(maxsize=64)
def _is_local(name: str) -> bool:
    if not name:
        return False
    if "." not in name and ":" not in name:
        return True
    if name.endswith(_LOCAL):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
