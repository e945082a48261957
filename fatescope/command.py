"""How the functions that are commands are run from the shell: named options, one way to log, to fail and to exit.

Exit codes: 0 done, 1 an error of ours (its message on standard error), 2 a wrong command line, 3 a proposal to which
nobody said yes (`fatescope data import`) or a benchmark of GPUs without one, 4 a version that could not be reproduced
(`fatescope models verify`), 130 interrupted.
"""

import getpass
import io
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from fatescope.errors import FatescopeError
from fatescope.lineage import WRITES, traced

# One home for the options that several stages share. `dvc.yaml` names all of them, so none has a default.
ParamsFile = Annotated[Path, typer.Option("--params", help="The file params.yaml.")]
TaskName = Annotated[str, typer.Option("--task", help="A task of dataset.tasks, for example binary.")]
CellsFolder = Annotated[Path, typer.Option("--cells", help="Folder of cells that the stage ingest wrote.")]
SplitsFile = Annotated[Path, typer.Option("--splits", help="splits.parquet of the stage split.")]
QualityFile = Annotated[Path | None, typer.Option("--quality", help="quality.parquet of the stage quality.")]
BestFile = Annotated[Path, typer.Option("--best", help="best.json of the stage tune.")]
ModelsFolder = Annotated[Path, typer.Option("--models", help="Folder that the stage train wrote: bundle, compared.")]
MetricsFile = Annotated[Path, typer.Option("--metrics", help="metrics.json of the stage evaluate.")]
AuditFile = Annotated[Path, typer.Option("--audit", help="audit.json of the stage audit.")]
OutFile = Annotated[Path, typer.Option("--out", help="File to write."), WRITES]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write."), WRITES]
PlotsFolder = Annotated[Path, typer.Option("--plots", help="Folder to draw plots into."), WRITES]

PACKAGES = ("__main__", "fatescope", "pipelines", "service", "monitoring", "benchmarks")
"""Loggers whose information is shown; of all others only warnings are."""


def run(main: Callable[..., None]) -> None:
    """Run `main` with options from the command line, as `python -m` of a module does."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(traced(main))
    execute(app)


def execute(app: typer.Typer, name: str | None = None) -> NoReturn:
    """Run `app`, called `name`, with the command line of this process, and exit with its code."""
    _name_user()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character must not end a command that has done its work.
        sys.stdout.reconfigure(errors="replace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)
    try:
        code = app(prog_name=name, standalone_mode=False)
    except FatescopeError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context else ""
        print(f"error: {error.format_message().replace('Value error, ', '').rstrip('.')}{hint}", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)


def _name_user() -> None:
    """Give a user without a name, as in a container that runs under a bare number, that number as a name.

    DVC and MLflow ask for one, and fail without.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        # The variable that Python asks first.
        os.environ["LOGNAME"] = str(os.getuid())
