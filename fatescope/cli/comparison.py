"""`fatescope models list`, `compare` and `protocol`: what is known of versions, and how they are judged."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fatescope.cli import console, project
from fatescope.cli.registry import Task, registry
from fatescope.errors import FatescopeError


def list_versions(
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Versions of this task alone.")] = None,
    as_json: console.AsJson = False,
) -> None:
    """List versions, with aliases, verdict and accuracy.

    The registry is the one at MLFLOW_TRACKING_URI, else in mlflow.db of this folder.
    """
    with registry():
        from pipelines.registry import listing, versions

        rows = listing.list_versions(task)
        missing = "" if rows else versions.describe_missing(task)
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        print(missing)
    for row in rows:
        accuracy = "missing" if row["balanced_accuracy"] is None else f"{row['balanced_accuracy']:.3f}"
        print(
            f"{row['model']:<22} {row['version']:>4}  {', '.join(row['aliases']):<21} gate: {row['verdict']:<9} "
            f"balanced accuracy {accuracy:<8} {row['created'][:16]}  {row['note']}".rstrip()
        )


def compare(
    task: Task,
    a: Annotated[
        str | None, typer.Argument(metavar="A", help="Version or alias to compare from; with --live, a number.")
    ] = None,
    b: Annotated[
        str | None, typer.Argument(metavar="B", help="Version or alias to compare with; with --live, a number.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report. [default: reports/TASK/compare]")] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Compare what challenger and champion answered to live traffic, from the records."),
    ] = False,
    records: Annotated[
        Path | None, typer.Option(help="With --live, the records of the service. [default: FATESCOPE_RECORDS, records]")
    ] = None,
    as_json: console.AsJson = False,
) -> None:
    """Compare two versions on the same test cells, or on live traffic.

    Metrics with intervals, acquisition groups, and the cells whose prediction changed. With --live, what a challenger
    answered in the shadow of the champion: agreement, verdicts, time, and what labels say.
    """
    if live:
        _compare_live(task, a, b, records, as_json=as_json)
        return
    if a is None or b is None:
        raise FatescopeError(f"two versions are compared; write `fatescope models compare {task} A B`, or add --live")
    project.require()
    folder = out or Path("reports") / task / "compare"
    with registry():
        from pipelines.commands import compare as command

        report = command.main(project.PARAMS, task, a, b, project.CELLS, project.SPLITS, folder)
    if as_json:
        console.print_json(report.model_dump(mode="json", by_alias=True))
    else:
        print(f"{report.describe()}\nwritten to {folder / f'{a}-{b}.html'}")


def _compare_live(task: str, a: str | None, b: str | None, records: Path | None, *, as_json: bool) -> None:
    """Print what the records say of two versions, by default the last two that answered the same cells."""
    from fatescope.inference import shadow_records, shadow_report

    folder = records or Path(os.environ.get("FATESCOPE_RECORDS") or "records")
    found = (a, b) if a and b else shadow_records.versions(folder, task)
    rows = shadow_records.read(folder, task, *found) if found else None
    if found is None or rows is None or rows.empty:
        wanted = f"versions {a} and {b}" if a and b else "any challenger"
        raise FatescopeError(
            f"{shadow_records.folder(folder, task)}: no records of {wanted}; start the service with "
            "FATESCOPE_SHADOW=true and a version with the alias challenger, or name its folder with --records"
        )
    labels = shadow_records.read(folder, task, *found, labelled=True)
    taken_back = shadow_records.read_taken_back(folder, task).get(found[1])
    report = shadow_report.compare(rows, labels, task, datetime.now(UTC), taken_back)
    if as_json:
        console.print_json(report.as_json())
    else:
        print(report.describe())


def protocol(
    task: Task,
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="Its number, or an alias: with what each test said of it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write, Markdown. [default: print it]")] = None,
    as_json: console.AsJson = False,
) -> None:
    """Print the gate as a change-control protocol, to be read and signed.

    What may change from one version to the next, how each change is tested, and who signs; all figures are those of
    params.yaml.
    """
    project.require()
    from pipelines.commands import protocol as command

    if version is None:
        drawn = command.protocol(project.PARAMS, task, None)
    else:
        with registry():
            drawn = command.protocol(project.PARAMS, task, version)
    if as_json:
        console.print_json(drawn.to_json())
        return
    from pipelines.reporting import protocol_page

    page = protocol_page.render(drawn)
    if out is None:
        print(page, end="")
        return
    out.write_text(page, encoding="utf-8")
    print(f"protocol of {task} in {out}")
