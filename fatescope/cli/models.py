"""`fatescope models`: the versions in the MLflow registry."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fatescope.cli import console, project
from fatescope.errors import FatescopeError

models = console.group(
    "Versions of models in the MLflow registry.",
    "fatescope models list",
    "fatescope models pull binary --out bundles/binary",
)

Task = Annotated[str, typer.Argument(metavar="TASK", help="The task, for example binary.")]
Reason = Annotated[str, typer.Option("--reason", "--why", help="Why; it is recorded with the version and on its card.")]


@contextmanager
def registry() -> Iterator[None]:
    """Turn what MLflow raises into one line; raises FatescopeError where there is no registry."""
    # MLflow would make an empty one.
    if not os.environ.get("MLFLOW_TRACKING_URI") and not Path("mlflow.db").exists():
        raise FatescopeError(
            "no registry: MLFLOW_TRACKING_URI is not set, and this folder has no mlflow.db; run `fatescope repro` first"
        )
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise FatescopeError(f"registry: {str(error).splitlines()[0]}") from error


@models.command(
    "list",
    epilog=console.examples("fatescope models list", "fatescope models list binary", "fatescope models list --json"),
)
def list_versions(
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Versions of this task alone.")] = None,
    as_json: console.AsJson = False,
) -> None:
    """List versions, with aliases, verdict and accuracy.

    The registry is the one at MLFLOW_TRACKING_URI, else in mlflow.db of this folder.
    """
    with registry():
        from pipelines.registry import listing

        rows = listing.list_versions(task)
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        print("no registered version" + (f" of {task}" if task else ""))
    for row in rows:
        accuracy = "missing" if row["balanced_accuracy"] is None else f"{row['balanced_accuracy']:.3f}"
        print(
            f"{row['model']:<22} {row['version']:>4}  {', '.join(row['aliases']):<21} gate: {row['verdict']:<9} "
            f"balanced accuracy {accuracy:<8} {row['created'][:16]}  {row['note']}".rstrip()
        )


@models.command(
    epilog=console.examples(
        "fatescope models compare binary 1 champion", "fatescope models compare binary champion challenger --json"
    )
)
def compare(
    task: Task,
    a: Annotated[str, typer.Argument(metavar="A", help="Version or alias to compare from.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Version or alias to compare with.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the report. [default: reports/TASK/compare]")] = None,
    as_json: console.AsJson = False,
) -> None:
    """Compare two versions on the same test cells.

    Metrics with intervals, acquisition groups, and the cells whose prediction changed.
    """
    project.require()
    folder = out or Path("reports") / task / "compare"
    with registry():
        from pipelines.commands import compare as command

        report = command.main(project.PARAMS, task, a, b, project.CELLS, project.SPLITS, folder)
    if as_json:
        console.print_json(report.model_dump(mode="json", by_alias=True))
    else:
        print(f"{report.describe()}\nwritten to {folder / f'{a}-{b}.html'}")


@models.command(
    epilog=console.examples(
        "fatescope models promote binary",
        "fatescope models promote binary 2 --reason 'first model on the new instrument'",
    )
)
def promote(
    task: Task,
    version: Annotated[
        str | None,
        typer.Argument(metavar="VERSION", help="Its number, or an alias such as challenger. [default: the newest]"),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", "--why", help="Why, where the gate does not allow it; it is recorded.")
    ] = None,
    as_json: console.AsJson = False,
) -> None:
    """Make a version the champion.

    One that passed the gate, such as in `dvc exp run`, or any other for a reason; who did so and why is recorded with
    the version and on later cards.
    """
    with registry():
        from pipelines.commands import promote as command

        promotion = command.promote(task, version, reason, _who())
    if as_json:
        console.print_json(promotion)
        return
    if promotion["failed"]:
        print(f"the gate had refused it: {', '.join(promotion['failed'])}")
    print(
        f"{promotion['model']}: champion is version {promotion['version']}, before: {promotion['replaced'] or 'none'}"
    )


@models.command(epilog=console.examples("fatescope models rollback binary --reason 'calls debris astrocyte'"))
def rollback(task: Task, reason: Reason, as_json: console.AsJson = False) -> None:
    """Give the alias champion back to the version before.

    Who did so and why is recorded with the version and on later cards.
    """
    with registry():
        from pipelines.commands import rollback as command

        before, after = command.rollback(task, reason, _who())
    if as_json:
        console.print_json({"task": task, "version": after, "rolled_back": before})
        return
    print(f"fatescope-{task}: champion is version {after} again, not {before}")


@models.command(
    epilog=console.examples(
        "fatescope models pull binary --out bundles/binary", "fatescope models pull binary 3 --out bundles/binary"
    )
)
def pull(
    task: Task,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Its number, or an alias.")] = "champion",
    out: Annotated[Path | None, typer.Option(help="The folder to write, which must not exist. [default: TASK]")] = None,
) -> None:
    """Download the bundle of a version.

    The library and the service load it from its folder.
    """
    target = out or Path(task)
    if target.exists():
        raise FatescopeError(f"{target}: exists already; name another folder with --out, or remove it")
    with registry():
        from fatescope.data.folders import fresh_folder
        from pipelines.registry import versions

        with versions.download(task, version) as folder, fresh_folder(target) as written:
            shutil.copytree(folder, written, dirs_exist_ok=True)
    print(f"bundle of {task} version {version} in {target}")


@models.command(epilog=console.examples("fatescope models repair", "fatescope models repair --json"))
def repair(as_json: console.AsJson = False) -> None:
    """Put the registry of a folder right that was moved or copied.

    MLflow keeps absolute paths in mlflow.db. This leads them to the mlruns of this folder; servers of MLflow, and
    artifacts that are kept elsewhere, are left alone.
    """
    from fatescope import artifact_places

    database = artifact_places.own_database(Path.cwd(), os.environ.get("MLFLOW_TRACKING_URI"))
    if database is None:
        raise FatescopeError(
            "no registry of this folder's own: it has no mlflow.db, or MLFLOW_TRACKING_URI names another registry"
        )
    misplaced = artifact_places.repair(database)
    if as_json:
        console.print_json([asdict(path) for path in misplaced])
        return
    for path in misplaced:
        print(f"{path.before}\n  → {path.after}")
    print(f"{len(misplaced)} paths of {database} put right" if misplaced else f"{database}: nothing is out of place")


def _who() -> str:
    """Return the name that git knows, else the one that the system knows."""
    command = ["git", "config", "user.name"]
    try:
        named = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git on this machine
        named = ""
    return named or getpass.getuser()
