"""`fatescope models`: the versions in the MLflow registry."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
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

TIMES = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%z",
)
"""How a time may be written."""
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
        "fatescope models compare binary 1 champion",
        "fatescope models compare binary champion challenger --json",
        "fatescope models compare --live binary",
    )
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

        promotion = command.promote(task, version, reason, console.who())
    if as_json:
        console.print_json(promotion)
        return
    if promotion["failed"]:
        print(f"the gate had refused it: {', '.join(promotion['failed'])}")
    print(
        f"{promotion['model']}: champion is version {promotion['version']}, before: {promotion['replaced'] or 'none'}"
    )


@models.command(
    epilog=console.examples(
        "fatescope models protocol binary", "fatescope models protocol binary champion --out protocol.md"
    )
)
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


@models.command(epilog=console.examples("fatescope models rollback binary --reason 'calls debris astrocyte'"))
def rollback(task: Task, reason: Reason, as_json: console.AsJson = False) -> None:
    """Give the alias champion back to the version before.

    Who did so and why is recorded with the version and on later cards.
    """
    with registry():
        from pipelines.commands import rollback as command

        before, after = command.rollback(task, reason, console.who())
    if as_json:
        console.print_json({"task": task, "version": after, "rolled_back": before})
        return
    print(f"fatescope-{task}: champion is version {after} again, not {before}")


@models.command(
    epilog=console.examples(
        "fatescope models history binary", "fatescope models history binary --at '2026-11-26 14:30' --json"
    )
)
def history(
    task: Task,
    at: Annotated[
        datetime | None,
        typer.Option(help="The champion at this time, in the time zone of this machine.", formats=list(TIMES)),
    ] = None,
    as_json: console.AsJson = False,
) -> None:
    """Say which version was the champion when, who put it there, and on what evidence.

    From the audit log (FATESCOPE_AUDIT_LOG); from the tags of the versions for the time before it began. With --at, the
    prediction log (FATESCOPE_RECORDS) says which versions answered within five minutes of that time.
    """
    with registry():
        from fatescope import audit_log
        from pipelines.registry import alias_history

        reigns = alias_history.champions(task, audit_log.configured())
    if at is None:
        if as_json:
            console.print_json([reign.as_dict() for reign in reigns])
            return
        for reign in reigns:
            print(alias_history.describe(reign))
        if not reigns:
            print(f"{task} never had a champion")
        return
    from fatescope.answered import versions_at

    time = at.astimezone()
    champion = alias_history.champion_at(reigns, time)
    records = os.environ.get("FATESCOPE_RECORDS") or "records"
    answered = {} if records == "off" else versions_at(Path(records), task, time)
    if as_json:
        console.print_json({"champion": champion.as_dict() if champion else None, "answered": answered})
        return
    print(
        alias_history.describe(champion) if champion else f"{task} had no champion yet on {time:%Y-%m-%d %H:%M:%S %Z}"
    )
    counts = ", ".join(f"version {version} answered {count:,} cells" for version, count in sorted(answered.items()))
    print(f"within five minutes of then: {counts or 'no recorded answers'}")


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
    """Download the bundle of a version, once its signature is verified.

    The library and the service load it from its folder. A version that was changed after it was signed, or that
    somebody else has signed, is refused and nothing is written.
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


@models.command(epilog=console.examples("fatescope models add fatescope-my-cells.zip", "fatescope models add taught"))
def add(
    path: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="The zip that the page gave, or a folder.", exists=True)
    ],
    as_json: console.AsJson = False,
) -> None:
    """Register a bundle that was taught on the page: unsigned and without an alias, so that nothing serves it.

    For that, somebody who may has to sign it (`fatescope models sign`) and to make it the champion with a reason
    (`fatescope models promote`): the gate has not compared it with the champion.
    """
    with registry():
        from pipelines.registry import taught

        task, number = taught.add(path)
    if as_json:
        console.print_json({"task": task, "version": number})
        return
    how = f"sign it with `fatescope models sign {task} {number}`"
    print(f"fatescope-{task}: registered as version {number}, unsigned and without an alias; {how}")


@models.command(
    epilog=console.examples("fatescope models sign binary 3", "fatescope models sign binary champion --json")
)
def sign(
    task: Task,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Its number, or an alias such as champion.")],
    as_json: console.AsJson = False,
) -> None:
    """Sign a version that was registered before versions were signed, or by a key that is to be replaced.

    With your signature you vouch for it: make sure that it is the one that you or your colleagues have trained. A
    version that was changed after it was signed, or that somebody else has signed, is refused.
    """
    with registry():
        from pipelines.registry import log_version

        number, signer = log_version.sign_version(task, version)
    if as_json:
        console.print_json({"task": task, "version": number, "signed_by": signer})
        return
    print(f"fatescope-{task} version {number}: signed by {signer}")


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
