"""The MLflow registry as commands use it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fatescope.errors import FatescopeError
from fatescope.model_registry import QUIET

Task = Annotated[str, typer.Argument(metavar="TASK", help="The task, for example binary.")]


@contextmanager
def registry() -> Iterator[None]:
    """Turn what MLflow raises into one line; raises FatescopeError where there is no registry."""
    # MLflow would make an empty one.
    if not os.environ.get("MLFLOW_TRACKING_URI") and not Path("mlflow.db").exists():
        raise FatescopeError(
            "no registry: MLFLOW_TRACKING_URI is not set, and this folder has no mlflow.db; run `fatescope repro` first"
        )
    os.environ.update(QUIET | os.environ)
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise FatescopeError(f"registry: {str(error).splitlines()[0]}") from error
