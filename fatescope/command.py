"""How a stage's `main` is run from the shell."""

import logging
import sys
from collections.abc import Callable

import typer

from fatescope.errors import FatescopeError


def run(main: Callable[..., None]) -> None:
    """Run `main` with arguments from the command line; print our own errors as one plain line and exit with 1."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for ours in ("__main__", "fatescope", "pipelines"):
        logging.getLogger(ours).setLevel(logging.INFO)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except FatescopeError as error:
        sys.exit(f"error: {error}")
