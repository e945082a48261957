"""Connect to a cluster of Ray, which is an optional dependency."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fatescope.errors import ParamsError


@contextmanager
def connect(address: str, *, log_to_driver: bool) -> Iterator[Any]:
    """Yield the module `ray`, connected to the cluster at `address` (`auto`: this machine's) until the block ends.

    With `log_to_driver`, the output of the cluster's processes appears here. Raises ParamsError where Ray is not
    installed or no cluster answers at `address`.
    """
    try:
        import ray  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ParamsError("Ray is not installed; pip install -c constraints.txt -e '.[ray]'") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=log_to_driver)
    except (OSError, ValueError, RuntimeError) as error:
        raise ParamsError(f"no Ray cluster at '{address}' ({error}); start one with `ray start --head`") from error
    try:
        yield ray
    finally:
        ray.shutdown()
