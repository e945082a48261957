"""`fatescope models pull`, `add`, `sign` and `repair`: the files of versions."""

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fatescope import plural
from fatescope.cli import console
from fatescope.cli.registry import Task, registry
from fatescope.errors import FatescopeError


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
    print(f"bundle of {task}, version {version}, in {target}")


def add(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The zip that the page gave, or a folder.")],
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
    paths = plural.count(len(misplaced), "path")
    print(f"{paths} of {database} put right" if misplaced else f"{database}: nothing is out of place")
