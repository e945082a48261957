"""`fatescope data forget` and `fatescope data expire`: delete what is kept about cells and people."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fatescope.cli import console, project
from fatescope.errors import FatescopeError

if TYPE_CHECKING:
    from fatescope.forgetting import Found, Places

IncidentsFolder = Annotated[Path, typer.Option(help="The folder of incidents.")]


def forget(  # noqa: PLR0913, PLR0917  each is an option of the command
    sample: Annotated[
        list[str] | None, typer.Option(help="A folder in the paths of images, or an acquisition group; repeat it.")
    ] = None,
    request: Annotated[
        list[str] | None, typer.Option(help="The number of a request, from its answer (request_id); repeat it.")
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(help="A pattern of paths, such as 'donor-17*/*' or 'cell_3_Ch1.tif'; repeat it."),
    ] = None,
    sha256: Annotated[list[str] | None, typer.Option(help="The SHA-256 of an image; repeat it.")] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(help="An image, instead of its SHA-256; repeat it."),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Another folder of Parquet files, such as one of `fatescope score`; repeat it."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would be deleted.")] = False,
    proof: Annotated[Path | None, typer.Option(help="File to write the proof to, as JSON.")] = None,
    incidents: IncidentsFolder = Path("incidents"),
    as_json: console.AsJson = False,
) -> None:
    """Delete a person's sample, and prove it.

    From the prediction log (FATESCOPE_RECORDS), incidents, corrections with their images (FATESCOPE_FEEDBACK), data and
    artifacts; a service may be running. All places are searched again afterwards. The proof and the entry in the audit
    log have counts and hashes of places, nothing that tells of whom. What this does not reach is printed, with what to
    do there.
    """
    from fatescope import forgetting

    for named in (*(image or []), *(also or [])):
        if not named.exists():
            raise FatescopeError(f"{named}: there is no such file or folder")
    selection = forgetting.Selection(
        samples=frozenset(sample or []),
        requests=frozenset(request or []),
        paths=frozenset(path or []),
        hashes=frozenset(digest.lower() for digest in sha256 or [])
        | {hashlib.sha256(one.read_bytes()).hexdigest() for one in image or []},
    )
    forgetting.check(selection)
    places, group_of = _places(incidents, also or []), _group_parser()
    if not yes:
        found, _ = forgetting.find(places, selection, group_of)
        _show_found(found, as_json=as_json)
        return
    result = forgetting.forget(places, selection, console.who(), group_of)
    if proof is not None:
        proof.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if project.DATA_VERSION.exists() and any(line["place"] == "data" and line["found"] for line in result["places"]):
        project.add_version()
    if as_json:
        console.print_json(result | {"not_reached": forgetting.UNREACHABLE})
    else:
        _show_proof(result)
    if not result["complete"]:
        raise FatescopeError("not all is gone: see what is left above, and run the command again")


def _places(incidents: Path, also: Iterable[Path]) -> "Places":
    from fatescope.forgetting import Places

    records, feedback = (os.environ.get(f"FATESCOPE_{name.upper()}") or name for name in ("records", "feedback"))
    return Places(
        records=None if records == "off" else Path(records),
        incidents=incidents,
        feedback=Path(feedback),
        data=project.DATA,
        artifacts=project.CELLS.parent,
        others=tuple(also),
    )


def _group_parser() -> Callable[[str], str | None]:
    """Return what says of the path of an image which acquisition group it is of; nothing outside a project."""
    if not project.PARAMS.exists():
        return lambda _: None
    from fatescope import config
    from fatescope.data.export_folder import read_labels
    from fatescope.data.paths import PathParser

    parser = PathParser(config.load(project.PARAMS).dataset, read_labels(project.DATA))

    def group_of(path: str) -> str | None:
        parsed = parser.read(path)
        return parsed.group if parsed else None

    return group_of


def _show_found(found: "list[Found]", *, as_json: bool) -> None:
    if as_json:
        console.print_json({one.place: {"found": one.selected, "where": one.examples} for one in found})
        return
    for one in found:
        print(f"{one.place}: {one.selected} of {one.items}")
        for place in one.examples[:20]:
            print(f"  {place}")
    if any(one.selected for one in found):
        print("nothing was deleted; --yes deletes it")
    else:
        print("found nowhere, so there is nothing to delete; look for another name with --path or --request")


def _show_proof(proof: dict[str, Any]) -> None:
    from fatescope.forgetting import UNREACHABLE

    for line in proof["places"]:
        print(
            f"{line['place']}: {line['found']} found, {line['remaining']} left; {line['items_before']} before, "
            f"{line['items_after']} now\n  {line['digest_before']}\n  {line['digest_after']}"
        )
    print("\nNot reached:")
    for place, remedy in UNREACHABLE.items():
        print(f"  {place}: {remedy}")


def expire(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would be deleted.")] = False,
    incidents: IncidentsFolder = Path("incidents"),
    as_json: console.AsJson = False,
) -> None:
    """Delete what has been kept for longer than its retention time.

    By kind: records, feedback, images, audit log and incidents (FATESCOPE_RETENTION_DAYS and the other variables of
    this name). The service and the receiver of incidents do the same daily.
    """
    from dataclasses import replace

    from fatescope import retention
    from monitoring.settings import MonitoringSettings
    from service.api.state import kept
    from service.settings import ServiceSettings

    days = MonitoringSettings.read({}).retention_incidents_days
    places = replace(kept(ServiceSettings.read()), incidents=retention.Place(incidents, days))
    removed = retention.apply(places, dry_run=not yes)
    if as_json:
        console.print_json(removed)
        return
    for kind, count in removed.items():
        print(f"{kind}: {count} {'deleted' if yes else 'would be deleted'}")
