"""How a stage or a command is run from the shell: named options, and errors of ours in one line."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from fatescope.errors import FatescopeError

# One home for the options that several stages share. `dvc.yaml` names all of them, so none has a default.
ParamsFile = Annotated[Path, typer.Option("--params", help="The file params.yaml.")]
TaskName = Annotated[str, typer.Option("--task", help="A task of dataset.tasks, for example binary.")]
CellsFolder = Annotated[Path, typer.Option("--cells", help="Folder of cells that the stage ingest wrote.")]
SplitsFile = Annotated[Path, typer.Option("--splits", help="splits.parquet of the stage split.")]
BestFile = Annotated[Path, typer.Option("--best", help="best.json of the stage tune.")]
ModelsFolder = Annotated[Path, typer.Option("--models", help="Folder that the stage train wrote: bundle, compared.")]
MetricsFile = Annotated[Path, typer.Option("--metrics", help="metrics.json of the stage evaluate.")]
AuditFile = Annotated[Path, typer.Option("--audit", help="audit.json of the stage audit.")]
OutFile = Annotated[Path, typer.Option("--out", help="File to write.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write.")]


def run(main: Callable[..., None]) -> None:
    """Run `main` with options from the command line; print our own errors as one plain line and exit with 1."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for ours in ("__main__", "fatescope", "pipelines"):
        logging.getLogger(ours).setLevel(logging.INFO)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except FatescopeError as error:
        sys.exit(f"error: {error}")
