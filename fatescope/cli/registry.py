"""The MLflow registry as commands use it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from fatescope.errors import FatescopeError
from fatescope.model_registry import QUIET, is_there

Task = Annotated[str, typer.Argument(metavar="TASK", help="The task, for example binary.")]


@contextmanager
def registry() -> Iterator[None]:
    """Turn what MLflow raises into one line; raises FatescopeError where there is no registry."""
    if not is_there():
        raise FatescopeError(
            "no registry: MLFLOW_TRACKING_URI is not set, and this folder has no mlflow.db; run `fatescope repro` first"
        )
    os.environ.update(QUIET | os.environ)
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise FatescopeError(f"registry: {str(error).splitlines()[0]}") from error
