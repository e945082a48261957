"""`fatescope labels`: label a few cells, chosen at random with known chances, to know how right a model is now."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fatescope import plural
from fatescope.cli import console
from fatescope.errors import FatescopeError

if TYPE_CHECKING:
    from fatescope.inference.accuracy import Estimate
    from fatescope.inference.label_queue import Batch
    from fatescope.inference.labelling import Labelled
    from monitoring.accuracy import FromLabels
    from monitoring.settings import MonitoringSettings
    from monitoring.sources import ServedModel

labels = console.group(
    "Label a few cells, to know how right a model is now.",
    "fatescope labels draw binary",
    "fatescope labels sheet binary --out sheet.csv --images export",
    "fatescope labels read binary sheet.csv",
    "fatescope labels status binary",
)

Task = Annotated[str, typer.Argument(metavar="TASK", help="The task, for example binary.")]
Service = Annotated[
    str | None, typer.Option(help="Address of the service. Without it FATESCOPE_SERVICE, else http://127.0.0.1:3000.")
]
Records = Annotated[
    Path | None, typer.Option(help="Folder of the prediction log. Without it FATESCOPE_RECORDS, else records.")
]
Feedback = Annotated[
    Path | None, typer.Option(help="Folder of the corrections. Without it FATESCOPE_FEEDBACK, else feedback.")
]


@labels.command(epilog=console.examples("fatescope labels draw binary", "fatescope labels draw binary --count 50"))
def draw(
    task: Task,
    count: Annotated[int, typer.Option(help="Cells to draw.", min=1, max=1000)] = 100,
    cells: Annotated[int, typer.Option(help="Newest cells to draw from.", min=100, max=5000)] = 500,
    service: Service = None,
) -> None:
    """Draw a batch of cells to label from the newest predictions, by the running service.

    Those are drawn more often whose label is expected to say more. Each batch is of cells since the last one.
    """
    import httpx

    from monitoring.settings import MonitoringSettings
    from monitoring.sources import connect

    settings = MonitoringSettings.read({"service": service})
    parameters: dict[str, str | int] = {"task": task, "count": count, "cells": cells}
    try:
        response = connect(settings).post("/queue", params=parameters)
    except httpx.HTTPError as error:
        raise _unreachable(settings.service, error) from error
    if response.is_error:
        raise FatescopeError(_message(response))
    drawn = plural.count(response.json()["drawn"], "cell")
    print(f"{drawn} of {task} to label; write a sheet with `fatescope labels sheet {task}`")


@labels.command(
    epilog=console.examples(
        "fatescope labels sheet binary --out sheet.csv",
        "fatescope labels sheet binary --images export",
        "fatescope labels sheet binary --disputed",
    )
)
def sheet(
    task: Task,
    out: Annotated[Path, typer.Option(help="The CSV file to write.")] = Path("sheet.csv"),
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images that were sent, to name the file of each cell.")
    ] = None,
    disputed: Annotated[
        bool, typer.Option(help="The cells on whose label people disagree, in place of those that have none.")
    ] = False,
    records: Records = None,
    feedback: Feedback = None,
) -> None:
    """Write the cells that wait for a label as a sheet to fill in.

    The service keeps no images: name the folder that has them. Write the class into the column `label`, or `?` where
    nobody can tell it, from the top, and leave none out: labels count up to the first cell that has none.
    """
    import pandas as pd

    from fatescope.inference import label_queue, label_sheet
    from fatescope.inference.labels import read_labels

    settings = _settings(records=records, feedback=feedback)
    known, newest = read_labels(settings.feedback, task), _newest(settings, task)
    cells = newest.waiting(known)
    if disputed:
        # Labels of earlier batches count too.
        batches = label_queue.read_batches(settings.records, task, newest.version)
        cells = pd.concat([batch.disputed(known) for batch in batches])
    found = label_sheet.write_sheet(cells, out, images)
    where = f", {found} of them with their file" if images else ""
    written = plural.count(len(cells), "cell")
    print(f"{written} in {out}{where}; fill in the column label, then `fatescope labels read {task} {out}`")


@labels.command(epilog=console.examples("fatescope labels read binary sheet.csv"))
def read(
    task: Task,
    sheet: Annotated[Path, typer.Argument(metavar="SHEET", help="A sheet that was filled in.")],
    records: Records = None,
    feedback: Feedback = None,
) -> None:
    """Read the labels of a sheet, and keep them as corrections.

    They overrule what was sent to the service with keys that lack the scope admin.
    """
    from fatescope.inference import label_sheet
    from fatescope.inference.labels import append_labels

    settings = _settings(records=records, feedback=feedback)
    filled = label_sheet.read_sheet(sheet, _newest(settings, task).classes)
    labels = plural.count(append_labels(settings.feedback, task, filled), "label")
    print(f"{labels} of {sheet} kept in {settings.feedback}; see `fatescope labels status {task}`")


@labels.command(epilog=console.examples("fatescope labels status binary", "fatescope labels status binary --json"))
def status(
    task: Task,
    service: Service = None,
    records: Records = None,
    feedback: Feedback = None,
    as_json: console.AsJson = False,
) -> None:
    """Say how right the champion of a running service is now, by labels and without them."""
    import httpx

    from monitoring import accuracy
    from monitoring.drift import Detector
    from monitoring.findings import MIN_CELLS
    from monitoring.sources import connect, fetch_models, fetch_reference, read_newest

    settings = _settings(service=service, records=records, feedback=feedback)
    try:
        client = connect(settings)
        models = {model.task: model for model in fetch_models(client)}
        if task not in models:
            raise FatescopeError(f"{task}: the service has no model of this task; it has {', '.join(sorted(models))}")
        model = models[task]
        reference = fetch_reference(client, task)
    except httpx.HTTPError as error:
        raise _unreachable(settings.service, error) from error
    window = read_newest(settings.records, model, settings.window)
    report = Detector(reference).evaluate(window) if len(window) >= MIN_CELLS else None
    watch = accuracy.AccuracyWatch.of(reference, model.prior, settings.accuracy_floor)
    unlabelled = watch.estimate(window, report)
    labelled = watch.from_labels(
        settings.records, settings.feedback, task, model.version, like=unlabelled.estimate is not None
    )
    if as_json:
        console.print_json(
            {
                "task": task,
                "version": model.version,
                "cells": len(window),
                "estimate": _bounds(unlabelled.estimate),
                "not_estimated": unlabelled.words or None,
                "labels": labelled and _as_json(labelled),
                "floor": watch.floor,
            }
        )
        return
    print(_heading(model, len(window)))
    print(accuracy.describe(unlabelled))
    print(accuracy.describe_labels(labelled, watch.floor))


def _as_json(labelled: "FromLabels") -> dict[str, object]:
    return {
        "estimate": _bounds(labelled.estimate),
        "combined": _bounds(labelled.combined),
        "labels": labelled.labels,
        "waiting": labelled.waiting,
        "disputed": labelled.disputed,
        "evidence": labelled.evidence,
    }


def _bounds(found: "Estimate | Labelled | None") -> dict[str, float] | None:
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high}


def _settings(**given: object) -> "MonitoringSettings":
    from monitoring.settings import MonitoringSettings

    return MonitoringSettings.read(given)


def _newest(settings: "MonitoringSettings", task: str) -> "Batch":
    from fatescope.inference import label_queue

    batch = label_queue.newest_batch(settings.records, task)
    if batch is None:
        raise FatescopeError(
            f"{task}: no cells were drawn yet in {settings.records}; run `fatescope labels draw {task}`"
        )
    return batch


def _heading(model: "ServedModel", cells: int) -> str:
    newest = plural.agree(cells, "the newest cell", f"the newest {cells} cells")
    return f"{model.name} version {model.version}, {newest}"


def _unreachable(service: str, error: Exception) -> FatescopeError:
    return FatescopeError(
        f"{service}: does not answer ({error}); start it with `fatescope serve`, or name another address with --service"
    )


def _message(response: object) -> str:
    """Return what an error response of the service says."""
    import httpx

    assert isinstance(response, httpx.Response)
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the service responded with status {response.status_code}"
