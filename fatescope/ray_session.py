"""Connect to a cluster of Ray, which is an optional dependency.

Whoever reaches a cluster can run what they like on it, as its user. So one is used only if it asks for a token (token
authentication of Ray), unless RAY_AUTH_MODE=disabled says that everybody who reaches it may.
"""

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fatescope.errors import ParamsError

log = logging.getLogger(__name__)

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""Environment variables of Ray; the token is TOKEN, else in the file TOKEN_PATH, else in `~/.ray/auth_token`."""
_OPEN = "disabled"
_START = f"start one with `{MODE}=token ray start --head`"


@contextmanager
def connect(address: str, *, log_to_driver: bool) -> Iterator[Any]:
    """Yield the module `ray`, connected to the cluster at `address` (`auto`: this machine's) until the block ends.

    With `log_to_driver`, the output of the cluster's processes appears here. Raises ParamsError where Ray is not
    installed, no cluster answers at `address`, or it takes work from anybody.
    """
    if not find_spec("ray"):
        raise ParamsError("Ray is not installed; pip install -c constraints.txt -e '.[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    closed = os.environ.setdefault(MODE, "token").lower() != _OPEN
    if closed:
        _check_token()
    import ray  # noqa: PLC0415  an extra, which reads the environment when it is imported

    try:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=log_to_driver)
    except (OSError, ValueError, RuntimeError) as error:
        theirs = f", and give its token to this command ({TOKEN_PATH})" if closed else ""
        raise ParamsError(f"no Ray cluster at '{address}' lets this in ({error}); {_START}{theirs}") from error
    try:
        if closed and _is_open(ray):
            raise ParamsError(
                f"the Ray cluster at '{address}' takes work from anybody who reaches it; {_START}, or set "
                f"{MODE}={_OPEN} where nobody else does"
            )
        yield ray
    finally:
        ray.shutdown()


def _check_token() -> None:
    """Raise ParamsError if there is no token; warn if others on this machine can read it."""
    if os.environ.get(TOKEN):
        return
    path = Path(os.environ.get(TOKEN_PATH) or Path.home() / ".ray" / "auth_token")
    try:
        found = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        found, reason = "", error.strerror
    else:
        reason = "empty"
    if not found:
        raise ParamsError(
            f"no token for the Ray cluster ({path}: {reason}); name the file of its token with {TOKEN_PATH}, or make "
            "one for a new cluster with `(umask 077; ray get-auth-token --generate)`"
        )
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("%s: others on this machine can read the token of the Ray cluster; chmod 600 %s", path, path)


def _is_open(ray: Any) -> bool:  # noqa: ANN401  the module
    """Return whether the head of the cluster asks nobody for a token; a node cannot be stricter than its head."""

    def mode() -> str:
        return os.environ.get(MODE, _OPEN)

    head = ray.remote(mode).options(num_cpus=0, resources={"node:__internal_head__": 0.001})
    answer: str = ray.get(head.remote())
    return answer.lower() != "token"
