"""Who may use what, and how much of it: scopes and quotas of API keys, and what is counted of their use."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from service.api.auth import APIKeyAuth
from service.api.key_file import Key
from service.api.usage import Usage
from service.inference import metrics
from service.inference.errors import RequestError
from service.inference.requester import Requester, requester

SCOPES = {
    "classify": "classify",
    "classify_batch": "classify",
    "classify_slices": "classify",
    "explain": "classify",
    "explain_slices": "classify",
    "summarise": "classify",
    "compare": "classify",
    "describe": "classify",
    "export": "classify",
    "feedback": "feedback",
    "queue": "feedback",
    "teach": "teach",
    "audit_log": "admin",
    "bundle": "download",
    **dict.fromkeys(("models", "card", "examples", "sample", "reference", "key")),
}
"""First part of a path → the scope that a key needs for it, None where any key will do; `admin` for all others."""
_CLOSED = frozenset(part for part, scope in SCOPES.items() if scope == "admin")
"""What is closed where no key is asked for, because nobody is known to be an operator there: not whoever asks from this
machine either, since a proxy on it, or a page in a browser on it, asks for others."""
KEY_NAME = "fatescope.key_name"
"""Key of the name of the API key in the ASGI scope of a request, for the access log."""
LINK, UNKNOWN = "link", "unknown"
"""What requests without an accepted key are called: those of a link, and those that are refused."""


def _first_part(path: str) -> str:
    # Some servers pass on the `*` of `OPTIONS *`, which has none.
    return path.removeprefix("/").partition("/")[0]


class Access:
    """Decides on each request before its body is read."""

    def __init__(self, auth: APIKeyAuth, usage: Usage | None) -> None:
        """`usage` None neither counts nor limits."""
        self._auth, self._usage = auth, usage

    @contextmanager
    def grant(self, request: Request, path: str) -> Iterator[None]:
        """Admit a request until the block ends; raises RequestError 401, 403 or 429."""
        if not self._auth.active:
            if _first_part(path) in _CLOSED:
                raise RequestError(
                    403, "scope", "this service has no keys, so that it cannot know who may see this; on its machine, "
                    "`fatescope audit-log show` does, and with a key of the scope 'admin' (`fatescope keys new NAME "
                    "--scope admin`) the service",
                )  # fmt: skip
            yield
            return
        key = self._check(request, path)
        if key is None:
            yield
            return
        current = Requester(key.name, key.scopes)
        token = requester.set(current)
        try:
            yield
        finally:
            requester.reset(token)
            if current.cells:
                metrics.count_key_cells(key.name, current.cells)
                if self._usage:
                    self._usage.add_cells(key, current.cells)

    def _check(self, request: Request, path: str) -> Key | None:
        """Return the key of a request; None for a link, which opens one document."""
        try:
            key = self._auth.check(request)
        except RequestError:
            self._refuse(UNKNOWN, "unknown")
            raise
        request.scope[KEY_NAME] = key.name if key else LINK
        needed = SCOPES.get(_first_part(path), "admin")
        if key is None:
            if needed is not None:
                # Whoever has all keys of a service, as of one that has a single key, can sign any link.
                self._refuse(LINK, "scope")
                raise RequestError(403, "scope", "a link opens documents alone; send a key that may do this")
            metrics.count_key(LINK, "accepted")
            return None
        if needed is not None and needed not in key.scopes:
            self._refuse(key.name, "scope")
            raise RequestError(
                403, "scope", f"the key '{key.name}' may not do this: it lacks the scope '{needed}' and has "
                f"{', '.join(sorted(key.scopes))}; ask the operator for a key that has it",
            )  # fmt: skip
        wait_s = self._usage.admit(key) if self._usage else None
        if wait_s is not None:
            metrics.count_key(key.name, "quota")
            raise RequestError(
                429, "quota", f"the quota of the key '{key.name}' is used up; it begins anew in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )  # fmt: skip
        metrics.count_key(key.name, "accepted")
        return key

    def _refuse(self, name: str, outcome: str) -> None:
        metrics.count_key(name, outcome)
        if self._usage:
            self._usage.refuse(name)

    def describe(self, name: str) -> tuple[Key, int, int] | None:
        """Return a key by its name, and the requests and cells of its current period; None where there is none."""
        key = self._auth.find(name)
        if key is None:
            return None
        return key, *(self._usage.used(key) if self._usage else (0, 0))
