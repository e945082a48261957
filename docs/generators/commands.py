"""`commands.md`: every command of `fatescope` and every option, from the Typer application."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperCommand, TyperGroup

from fatescope.cli.app import app
from generators.markdown import block, code, docstring, sentence, table

INTRODUCTION = """\
`fatescope --help` and `fatescope COMMAND --help` print the same. Errors are one line on standard error and an exit code
other than 0. `fatescope --install-completion` completes commands in your shell.
"""


def page(_: Path) -> str:
    """Return the page."""
    root = typer.main.get_command(app)
    parts = ["# Commands", INTRODUCTION, _options(root, typer.Context(root, info_name="fatescope"))]
    for context in _leaves(root, None, "fatescope"):
        parts += _describe(context)
    return "\n\n".join(part for part in parts if part)


def _leaves(command: TyperCommand | TyperGroup, parent: typer.Context | None, name: str) -> Iterator[typer.Context]:
    """Yield the context of every command that does something, depth first, in the order of the help."""
    context = typer.Context(command, parent=parent, info_name=name)
    if not isinstance(command, TyperGroup):
        yield context
        return
    for child in command.list_commands(context):
        found = command.get_command(context, child)
        if found is not None and not found.hidden:
            yield from _leaves(found, context, child)


def _describe(context: typer.Context) -> list[str]:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    return [
        f"## {context.command_path}",
        block(usage, "text"),
        docstring(_unmarked(command.help)),
        _options(command, context),
        _examples(command.epilog),
    ]


def _unmarked(text: str | None) -> str:
    """Return a text of a help without the mark that keeps its lines."""
    return inspect.cleandoc(text or "").replace("\b\n", "")


def _examples(epilog: str | None) -> str:
    """Return the lines of examples below a help as a block of text."""
    heading, _, lines = _unmarked(epilog).partition("\n")
    return f"{heading}\n\n{block(inspect.cleandoc(lines), 'text')}" if lines else heading


def _options(command: TyperCommand | TyperGroup, context: typer.Context) -> str:
    """Return a table of arguments and options, with what the help says of each."""
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [[code(name.strip()), sentence(meaning)] for name, meaning in filter(None, records) if name != "--help"]
    return table(["argument or option", "meaning"], rows) if rows else ""
