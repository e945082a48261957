"""`fatescope models verify`: build a registered version again."""

from pathlib import Path
from typing import Annotated

import typer

from fatescope.cli import console
from fatescope.cli.registry import Task, registry

NOT_REPRODUCED = 4
"""The exit code of a version that could not be reproduced, unlike an error of the rebuild."""


def verify(  # noqa: PLR0913, PLR0917  options of the command
    task: Task,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Its number, or an alias such as champion.")],
    repository: Annotated[
        str | None,
        typer.Option(help="Repository of the code. [default: the one of this folder, else the one recorded]"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the cells. [default: the recorded version, drawn or pulled by DVC]")
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Use this environment, and say what is otherwise, instead of making one.")
    ] = False,
    rebuilds: Annotated[int, typer.Option(help="Rebuilds with other seeds, for the spread.", min=2, max=20)] = 3,
    keep: Annotated[
        Path | None, typer.Option(help="Build in this folder, and keep it. [default: a temporary one]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Report. [default: reports/TASK/verify/VERSION.json]")] = None,
    as_json: console.AsJson = False,
) -> None:
    """Build a version again from what the registry has, and compare.

    Checks out the recorded code, makes an environment by the recorded constraints, gets the recorded data, and trains
    for the recorded epochs: once with the recorded seed, and a few times with others. Exit code 4 where the version is
    not reproduced: its logits differ, and a metric is outside what other seeds give.
    """
    with registry():
        from pipelines.commands import verify as command

        choices = command.Choices(repository, data, here, rebuilds, keep)
        report = command.verify(task, version, choices)
    target = out or Path("reports") / task / "verify" / f"{report.version}.json"
    report.write(target)
    if as_json:
        console.print_json(report.model_dump(mode="json"))
    else:
        print(f"{report.describe()}\nwritten to {target}")
    if not report.reproduced:
        raise typer.Exit(NOT_REPRODUCED)
