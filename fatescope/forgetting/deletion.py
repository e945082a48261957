"""Find a selection in all places, delete it, search again, and say so in a proof."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from fatescope import audit_log
from fatescope.forgetting import corrections, images, tables
from fatescope.forgetting.selection import Found, GroupOf, Selection

SETTLE_S = 12.0
"""A service writes its predictions to the disk within 10 s."""

UNREACHABLE = {
    "the cache of DVC, which has earlier versions of the data": "dvc gc --workspace --force",
    "remotes of DVC": "dvc gc --workspace --cloud --force",
    "versions in MLflow: their bundles have test cells and a reference": "retrain, then delete the versions that were "
    "trained on the sample in MLflow, and run mlflow gc",
    "bundles and reports here, made of the data as it was": "fatescope repro",
    "runs of incidents in MLflow, with a copy of the window": "mlflow runs delete --run-id ID, for the ID in "
    "incidents/*/mlflow_run.txt, and mlflow gc",
    "rows of the prediction log of requests that were not named": "name them with --request; answers and the log of "
    "the service have the number",
    "an object of a .cif or .rif alone": "name the file with --path; it goes as a whole",
    "backups, copies elsewhere, results that people downloaded": "by hand",
}
"""What this does not reach → what to do there."""


@dataclass(frozen=True)
class Line:
    """The line of a place in a proof: nothing in it tells of whom."""

    place: str
    items_before: int
    found: int
    items_after: int
    remaining: int
    digest_before: str
    digest_after: str


@dataclass(frozen=True)
class Places:
    """Where to look; None for what there is not."""

    records: Path | None = None
    incidents: Path | None = None
    feedback: Path | None = None
    data: Path | None = None
    artifacts: Path | None = None
    others: tuple[Path, ...] = ()


def find(places: Places, selection: Selection, group_of: GroupOf = lambda _: None) -> tuple[list[Found], Selection]:
    """Return what is selected in each place, and the selection with the hashes of the images that were found."""
    found = _find_all(places, selection, group_of)
    while True:
        known = {
            name: getattr(selection, name).union(*(getattr(one, name) for one in found))
            for name in ("hashes", "cells", "pixels", "answers")
        }
        if all(getattr(selection, name) == values for name, values in known.items()):
            return found, selection
        selection = replace(selection, **known)
        found = _find_all(places, selection, group_of)


def forget(
    places: Places, selection: Selection, who: str, group_of: GroupOf = lambda _: None, settle_s: float = SETTLE_S
) -> dict[str, Any]:
    """Delete what is selected, search again, enter it into the audit log, and return the proof.

    Where a service has written records in the last minute, its last predictions are waited for. The proof has `time`,
    `selection` (how many were given of each kind), `places` (each a `Line`) and `complete`: whether nothing is left.
    """
    if places.records and tables.are_written_to(places.records):
        time.sleep(settle_s)
    before, selection = find(places, selection, group_of)
    for place, remove in _removers(places, group_of).items():
        if any(one.place == place and one.selected for one in before):
            remove(selection)
    after = _find_all(places, selection, group_of)
    lines = [
        Line(old.place, old.items, old.selected, new.items, new.selected, old.digest, new.digest)
        for old, new in zip(before, after, strict=True)
    ]
    proof: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "selection": selection.counts(),
        "places": [asdict(line) for line in lines],
        "complete": not any(line.remaining for line in lines),
    }
    digest = hashlib.sha256(json.dumps(proof, sort_keys=True).encode()).hexdigest()
    evidence = {
        "complete": proof["complete"],
        "selection": proof["selection"],
        "places": {line.place: {"found": line.found, "remaining": line.remaining} for line in lines},
        "proof_sha256": digest,
    }
    # Neither a name nor a hash of what went: an entry cannot be deleted.
    audit_log.append(audit_log.DELETION, "sample", evidence=evidence, who=who)
    return proof


def _find_all(places: Places, selection: Selection, group_of: GroupOf) -> list[Found]:
    found = []
    for name, folder in _folders_of_tables(places).items():
        if folder is not None and folder.is_dir():
            found.append(tables.find(name, folder, selection))
    if places.feedback is not None and places.feedback.is_dir():
        found.append(corrections.find(places.feedback, selection))
    if places.data is not None and places.data.is_dir():
        found.append(images.find(places.data, selection, group_of))
    return found


def _folders_of_tables(places: Places) -> dict[str, Path | None]:
    named = {"records": places.records, "incidents": places.incidents, "artifacts": places.artifacts}
    return named | {str(folder): folder for folder in places.others}


def _removers(places: Places, group_of: GroupOf) -> Mapping[str, Callable[[Selection], None]]:
    removers: dict[str, Callable[[Selection], None]] = {}
    for name, folder in _folders_of_tables(places).items():
        if folder is not None:
            removers[name] = partial(tables.remove, folder)
    if (feedback := places.feedback) is not None:
        removers["feedback"] = lambda selection: corrections.remove(feedback, selection)
    if (data := places.data) is not None:
        removers["data"] = lambda selection: images.remove(data, selection, group_of)
    return removers
