"""Ray, which is an extra: how a cluster is joined."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fatescope.errors import ParamsError


@contextmanager
def joined(address: str, *, aloud: bool) -> Iterator[Any]:
    """Yield the module `ray`, connected to the cluster at `address` (`auto`: this machine's) until the block ends.

    `aloud`: what its processes print is printed here. Raises ParamsError where Ray is not installed, or nothing
    answers there.
    """
    try:
        import ray  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ParamsError("Ray is not installed; pip install -c constraints.txt -e '.[ray]'") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=aloud)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ParamsError(f"no Ray cluster at '{address}' ({error}); start one with `ray start --head`") from error
    try:
        yield ray
    finally:
        ray.shutdown()
