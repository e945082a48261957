"""Parts of Optuna that it has offered for years and still calls experimental."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import optuna

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def silence_experimental() -> Iterator[None]:
    """Ignore Optuna's warnings about experimental parts while the block runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def accept_experimental(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` without the warning that it is experimental."""

    @wraps(function)
    def silent(*args: P.args, **kwargs: P.kwargs) -> R:
        with silence_experimental():
            return function(*args, **kwargs)

    return silent
