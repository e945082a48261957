"""What all commands share: how they print, and where they find the programs that they start."""

import getpass
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from fatescope.errors import FatescopeError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
ParamsPath = Annotated[Path, typer.Option("--params", help="The parameters of the project.")]


def examples(*lines: str) -> str:
    """Return the end of a command's help: lines that run as they stand."""
    # The \b keeps the lines as they are; Click would fill a paragraph.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def print_json(content: object) -> None:
    """Print `content` as JSON on standard output."""
    print(json.dumps(content, indent=2, ensure_ascii=False))


def show_help(context: typer.Context) -> None:
    """Print the help of a group of commands where none of them is named."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def group(text: str, *lines: str) -> typer.Typer:
    """Return a group of commands with the help `text` and `lines` as examples."""
    # Plain help: Rich would be imported for it.
    return typer.Typer(
        help=text, epilog=examples(*lines), callback=show_help, invoke_without_command=True, rich_markup_mode=None
    )


def program(name: str, remedy: str) -> str:
    """Return the path of the program `name`, beside this Python or on the path.

    Raises FatescopeError with the `remedy` where there is none.
    """
    beside = Path(sys.executable).with_name(name)
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        raise FatescopeError(f"{name} is not installed; {remedy}")
    return path


@contextmanager
def step(text: str) -> Iterator[None]:
    """Print what the block does, and how long it took."""
    print(f"{text} …", flush=True)
    start = perf_counter()
    yield
    print(f"  done in {perf_counter() - start:.1f} s", flush=True)


@contextmanager
def hushed(logger: str) -> Iterator[None]:
    """Keep what a module logs for information from the terminal while the block runs."""
    found = logging.getLogger(logger)
    level = found.level
    found.setLevel(logging.WARNING)
    try:
        yield
    finally:
        found.setLevel(level)


def who() -> str:
    """Return the name that git knows, else the one that the system knows."""
    command = ["git", "config", "user.name"]
    try:
        named = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git on this machine
        named = ""
    return named or getpass.getuser()
